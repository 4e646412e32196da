"""Records on disk to what people read: tables, figures, comparisons."""
