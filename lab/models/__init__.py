"""What predicts, learns and writes: networks, counting models, their training and their sampling."""
