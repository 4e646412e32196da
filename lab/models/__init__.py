"""What predicts, learns and writes: networks, counting models, training, sampling."""
