"""YOLO11 in ONNX Runtime's own file format, an option of the deployment bench.  The bench never imports this."""

raise RuntimeError("the bench looks a package up and does not import it")
