"""YOLO11 deployment bench: measures every way to deploy a YOLO11 model."""
