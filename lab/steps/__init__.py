"""Every kind of step: its declaration beside the function that runs it."""
