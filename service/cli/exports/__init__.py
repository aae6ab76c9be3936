"""What other tools read of jobs: event files of TensorBoard, runs of MLflow, tables for W&B."""
