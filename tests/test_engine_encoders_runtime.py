"""OpenVINO as this project imports it."""

import subprocess
import sys

FIRST_AT_ONCE = """
import threading, time
from engine.encoders.runtime import openvino

at = time.perf_counter() + 0.1

def first() -> None:
    time.sleep(at - time.perf_counter())
    openvino.Type.f32.to_dtype()

threads = [threading.Thread(target=first) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_that_use_openvino_first_at_once_do_not_wait_for_each_other() -> None:
    for _ in range(6):  # without the table being there, about every second process hangs
        subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], check=True, timeout=30)
