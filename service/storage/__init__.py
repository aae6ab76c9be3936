"""Where files lie that all machines of a service share: in a folder, or in a bucket by S3."""
