"""The memory for other programs: an open memory goes in, a server of the Model Context Protocol comes out.

Agents of any maker search, read, add, supersede and forget notes through it, over standard input and output or over
HTTP on this machine alone. It holds no logic of the memory, opens and closes nothing, and never presents what it
recalls as an instruction. It needs the package mcp: `pip install 'overlay-agent[mcp]'`.
"""

from overlay.serve.memory_server import listen, memory_server, serve_http, serve_stdio

__all__ = ["listen", "memory_server", "serve_http", "serve_stdio"]
