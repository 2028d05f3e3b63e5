"""The least that answers at all: the engine, NumPy, one model, one run. `edgeinfer run` is held against it."""

from __future__ import annotations

import sys

import numpy as np

engine, model = sys.argv[1:]
if engine == "tflite-runtime":
    from tflite_runtime.interpreter import Interpreter
else:
    from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model, num_threads=1)
interpreter.allocate_tensors()
given = interpreter.get_input_details()[0]
interpreter.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
interpreter.invoke()
print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax())
