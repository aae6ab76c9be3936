"""Background work of the API process: the reconciler and the sender of webhooks are threads."""
