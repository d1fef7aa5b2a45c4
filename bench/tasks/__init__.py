"""What a YOLO task is to the bench: its labels, its input, what its outputs mean and how they are scored."""
