"""Where an answered frame goes: window, video file, JSON lines, MQTT."""
