"""Stands between a client that cannot say who it is and a broker that wants to know: says the name and password of one
role over TLS, gives the client's inbox the role's prefix, and asks the coordinator on a subject for each kind of request.
That is what the client has to learn; roles.py uses this only where the binaries under test do not know it yet."""

import asyncio
import json
import ssl
import threading


class StandIn:
    """A plain listener on the loopback interface that speaks for one role."""

    def __init__(self, role, password, upstream, authority):
        self.role, self.password, self.upstream = role, password, upstream
        self.tls = ssl.create_default_context(cafile=str(authority))
        self.port = None
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        assert ready.wait(10), "the stand-in does not listen"

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    async def _serve(self, ready):
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await server.serve_forever()

    async def _client(self, reader, writer):
        try:
            broker_in, broker_out = await asyncio.open_connection("127.0.0.1", self.upstream)
            info = json.loads((await broker_in.readline()).removeprefix(b"INFO "))
            await broker_out.start_tls(self.tls, server_hostname="localhost")
            for key in ("tls_required", "tls_verify", "tls_available", "auth_required", "connect_urls"):
                info.pop(key, None)
            writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
            ways = [self._way(reader, broker_out, self._outward), self._way(broker_in, writer, self._inward)]
            done, left = await asyncio.wait([asyncio.ensure_future(w) for w in ways], return_when=asyncio.FIRST_COMPLETED)
            for way in left:
                way.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _way(self, reader, writer, turn):
        try:
            while line := await reader.readline():
                words = line.decode().split()
                body = b""
                if words and words[0].upper() in ("PUB", "HPUB", "MSG", "HMSG"):
                    body = await reader.readexactly(int(words[-1]) + 2)
                writer.write(turn(line, words, body) + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _own(self, inbox):
        return inbox.replace("_INBOX.", f"_INBOX.{self.role}.", 1) if inbox.startswith("_INBOX.") else inbox

    def _outward(self, line, words, body):
        verb = words[0].upper() if words else ""
        if verb == "CONNECT":
            connect = json.loads(line.split(b" ", 1)[1])
            connect.update(user=self.role, **{"pass": self.password}, tls_required=True)
            return b"CONNECT " + json.dumps(connect).encode() + b"\r\n"
        if verb == "SUB":
            words[1] = "fulltime.api.*" if words[1] == "fulltime.api" else self._own(words[1])
        elif verb in ("PUB", "HPUB"):
            counts = 1 if verb == "PUB" else 2
            if len(words) == 3 + counts:
                words[2] = self._own(words[2])
            if words[1] == "fulltime.api":
                payload = body[int(words[-2]) if verb == "HPUB" else 0 : -2]
                words[1] += "." + json.loads(payload)["request"]
        else:
            return line
        return " ".join(words).encode() + b"\r\n"

    def _inward(self, line, words, _body):
        if not words or words[0] not in ("MSG", "HMSG"):
            return line
        words[1] = words[1].replace(f"_INBOX.{self.role}.", "_INBOX.", 1)
        return " ".join(words).encode() + b"\r\n"
