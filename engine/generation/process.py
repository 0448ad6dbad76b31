"""A studio in a process of its own, at the lowest priority: drawing must not slow the searches beside it.

Requests and answers pass through a pipe. The process starts with the first drawing, is started again when it died, and ends with
the one that started it, however that ends.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from engine.drawings import GeneratedImage, GenerationRequest
from engine.errors import SemblanceError, Unavailable
from engine.generation.studio import Drawing, Progress, Studio

logger = logging.getLogger(__name__)

LOWEST_PRIORITY = 19
END_S = 5.0


class StudioProcess:
    """Has `Studio.draw` done elsewhere. Thread-safe: drawings take turns. Whoever makes it closes it.

    `open_studio` is called in the other process, so it must be importable there.
    """

    def __init__(self, open_studio: Callable[[], Studio]) -> None:
        self._open = open_studio
        self._turn = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def draw(self, request: GenerationRequest, progress: Progress | None = None) -> Drawing:
        """Draw as `Studio.draw` does and raise what it raises; `Unavailable` when the process died meanwhile."""
        with self._turn:
            pipe = self._started()
            try:
                pipe.send((request, progress is not None))
                return _follow(pipe, progress)
            except (EOFError, OSError):
                self._stop()
                raise Unavailable("the process that draws ended unexpectedly: try again, its log says why") from None

    def close(self) -> None:
        """End the process; a drawing under way is lost. It starts again if it is needed again."""
        process = self._process
        if process is not None and not self._turn.acquire(timeout=0.1):
            process.terminate()  # whoever waits for the drawing is told by the broken pipe
            self._turn.acquire()
        elif process is None:
            return
        try:
            self._stop()
        finally:
            self._turn.release()

    def _started(self) -> Connection:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self._stop()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._open), name="semblance-studio", daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe

    def _stop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.terminate()
            self._process.join(END_S)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            self._process.close()
        self._process = self._pipe = None


def _follow(pipe: Connection, progress: Progress | None) -> Drawing:
    while True:
        answer = pipe.recv()
        if isinstance(answer, Drawing):
            return answer
        if isinstance(answer, SemblanceError):
            raise answer
        if isinstance(answer, BaseException):
            raise RuntimeError("the process that draws failed") from answer
        pipe.send(progress is None or progress(*answer))


def _serve(pipe: Connection, open_studio: Callable[[], Studio]) -> None:
    """Draw what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the whole group; the parent decides when to end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "nice"):
        os.nice(LOWEST_PRIORITY)
    studio: Studio | None = None
    while True:
        try:
            request, wants_progress = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            studio = studio or open_studio()
            answer: object = studio.draw(request, _Reporter(pipe) if wants_progress else None)
        except Exception as error:  # whatever it is, whoever waits must hear of it
            answer = error
        _answer(pipe, answer)


def _answer(pipe: Connection, answer: object) -> None:
    try:
        pipe.send(answer)
    except (TypeError, AttributeError, ValueError) as error:  # an exception that cannot be pickled
        pipe.send(RuntimeError(f"{type(answer).__name__}: {answer} ({error})"))


class _Reporter:
    """Sends each candidate through the pipe and waits for the word to go on."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __call__(self, candidate: GeneratedImage, done: int, total: int) -> bool:
        self._pipe.send((candidate, done, total))
        return bool(self._pipe.recv())
