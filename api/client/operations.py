"""What both clients can do, said once: each operation is a function that describes a call, and becomes a method of both.

`Semblance` and `AsyncSemblance` differ in how they send; that is all they hold.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, overload

from api.client.call import ManyPlan, OnePlan, Result
from api.client.calls import catalogue, searching, working

if TYPE_CHECKING:
    from api.client.asynchronous import AsyncSemblance
    from api.client.synchronous import Semblance

P = ParamSpec("P")


class One(Generic[P, Result]):
    """A method with one result: plain on `Semblance`, to be awaited on `AsyncSemblance`."""

    def __init__(self, describe: Callable[P, OnePlan[Result]]) -> None:
        self.describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, kind: object) -> Self: ...
    @overload
    def __get__(self, client: "Semblance", kind: object) -> Callable[P, Result]: ...
    @overload
    def __get__(self, client: "AsyncSemblance", kind: object) -> Callable[P, Coroutine[Any, Any, Result]]: ...
    def __get__(self, client: Any, kind: object) -> Any:
        """Bind the operation to a client."""
        return self if client is None else _bound(self.describe, client.one)


class Many(Generic[P, Result]):
    """A method with several results: an iterator on `Semblance`, an asynchronous one on `AsyncSemblance`."""

    def __init__(self, describe: Callable[P, ManyPlan[Result]]) -> None:
        self.describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, kind: object) -> Self: ...
    @overload
    def __get__(self, client: "Semblance", kind: object) -> Callable[P, Iterator[Result]]: ...
    @overload
    def __get__(self, client: "AsyncSemblance", kind: object) -> Callable[P, AsyncIterator[Result]]: ...
    def __get__(self, client: Any, kind: object) -> Any:
        """Bind the operation to a client."""
        return self if client is None else _bound(self.describe, client.many)


def _bound(describe: Callable[..., Any], send: Callable[[Any], Any]) -> Callable[..., Any]:
    @wraps(describe)
    def method(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  its type is that of `describe`
        return send(describe(*args, **kwargs))

    return method


class Operations:
    """The operations of both clients."""

    search = One(searching.search)
    search_text = One(searching.search_text)
    search_image = One(searching.search_image)
    search_voice = One(searching.search_voice)
    recommend = One(searching.recommend)
    pages = Many(searching.pages)
    embed = One(searching.embed)
    models = One(searching.models)
    ready = One(searching.ready)

    collections = One(catalogue.collections)
    collection = One(catalogue.collection)
    create_collection = One(catalogue.create_collection)
    drop_collection = One(catalogue.drop_collection)
    document = One(catalogue.document)
    picture = One(catalogue.picture)
    upsert = One(catalogue.upsert)
    patch = One(catalogue.patch)
    delete = One(catalogue.delete)
    delete_where = One(catalogue.delete_where)
    take_snapshot = One(catalogue.take_snapshot)
    snapshots = One(catalogue.snapshots)
    fetch_snapshot = One(catalogue.fetch_snapshot)
    remove_snapshot = One(catalogue.remove_snapshot)
    restore = One(catalogue.restore)
    aliases = One(catalogue.aliases)
    point_alias = One(catalogue.point_alias)
    forget_alias = One(catalogue.forget_alias)

    import_file = One(working.import_file)
    import_from_server = One(working.import_from_server)
    retry_import = One(working.retry_import)
    refused_rows = Many(working.refused_rows)
    jobs = One(working.jobs)
    job = One(working.job)
    cancel = One(working.cancel)
    wait = One(working.wait)
    follow = Many(working.follow)
    generate = One(working.generate)
    drawing = One(working.drawing)
