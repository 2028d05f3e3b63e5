"""Turn a trained Keras model into a quantized, checked and labelled TFLite file."""
