"""Data sets, images, batches, augmentation."""
