"""Tissue segmentation of infant brain MRI with a skip-connected 3D DenseNet."""
