"""Detection: boxes in, COCO mAP out."""
