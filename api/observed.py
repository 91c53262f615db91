"""The application with an account of every request: opened when it comes in, closed when its last byte is out."""

from __future__ import annotations

from litestar import Litestar
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Message, Receive, Scope, Send

from api.account import CLIENT_LEFT, LEFT_STATUS, Account, account_of, server_timing
from api.request_id import request_id
from api.service import Service

UNMATCHED = "unmatched"
"""The route of a request that matches none."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observed(Litestar):
    """Litestar; what happens to a request is told to the service's accounts."""

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        scope.setdefault("state", {})
        account, accounts = opened(scope), self._service.accounts
        whole = False

        async def told(message: Message) -> None:
            nonlocal whole
            if message["type"] == "http.response.start":
                account.status = message["status"]
                if account.reports:
                    timing = (b"server-timing", server_timing(account).encode("ascii"))
                    message["headers"] = [*message.get("headers", ()), timing]
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)  # type: ignore[arg-type]

        accounts.begin()
        try:
            await super().__call__(scope, receive, told)
        finally:
            account.route = scope.get("path_template") or UNMATCHED
            if not whole:
                account.error = CLIENT_LEFT
            if account.error == CLIENT_LEFT:
                account.status = LEFT_STATUS
            accounts.end(account)

    @property
    def _service(self) -> Service:
        service: Service = self.state.service
        return service


def opened(scope: Scope) -> Account:
    """A new account of the request."""
    account = account_of(scope)
    method = scope.get("method", "")
    account.method = method if method in METHODS else "other"
    account.request_id = request_id(scope)
    given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    account.traceparent = given[:64].decode("ascii", "replace")
    return account
