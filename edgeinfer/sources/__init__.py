"""Frames: from a camera, a stream, a video, a folder of pictures."""
