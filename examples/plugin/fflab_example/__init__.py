"""Methods for fflab."""
