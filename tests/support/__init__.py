"""What the tests share: tiny studies, processes that are killed, hostile input."""
