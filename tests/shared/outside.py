# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers that maps depend on; run in a testbed. `names ADDRESS`: a name server, for which each
name is 127.0.0.1. `maps FILE`: a server of maps by HTTPS, on port 8443, with certificate and key
of a file."""

import http.server
import socketserver
import ssl
import struct
import sys
import zlib

LINK = '<Get><OnlineResource xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="{}?"/></Get>'
CAPABILITIES = f"""<WMS_Capabilities version="1.3.0" xmlns="http://www.opengis.net/wms">
<Service><Name>WMS</Name><Title>Outside</Title></Service><Capability><Request>
<GetCapabilities><Format>text/xml</Format><DCPType><HTTP>{LINK}</HTTP></DCPType></GetCapabilities>
<GetMap><Format>image/png</Format><DCPType><HTTP>{LINK}</HTTP></DCPType></GetMap>
</Request><Layer><Title>All</Title><CRS>EPSG:4326</CRS>
<EX_GeographicBoundingBox><westBoundLongitude>-180</westBoundLongitude>
<eastBoundLongitude>180</eastBoundLongitude><southBoundLatitude>-90</southBoundLatitude>
<northBoundLatitude>90</northBoundLatitude></EX_GeographicBoundingBox>
<BoundingBox CRS="EPSG:4326" minx="-90" miny="-180" maxx="90" maxy="180"/>
<Layer><Name>a</Name><Title>a</Title></Layer></Layer></Capability></WMS_Capabilities>"""


def red(width: int, height: int) -> bytes:
    """A PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff\0\0" * width) * height)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


class Maps(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        map = "request=getmap" in self.path.lower()
        text = CAPABILITIES.format(*[f"https://{self.headers['Host']}/"] * 2)
        body = red(256, 128) if map else text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "image/png" if map else "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Names(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """RFC 1035: the question again, and to one for an A record an answer."""
        data, socket = self.request
        end = data.index(b"\0", 12) + 5
        count = int(data[end - 4 : end - 2] == b"\0\1")
        head = data[:2] + struct.pack(">HHHHH", 0x8580, 1, count, 0, 0)
        answer = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 0, 4, 127, 0, 0, 1)
        socket.sendto(head + data[12:end] + answer * count, self.client_address)


if sys.argv[1] == "names":
    socketserver.UDPServer((sys.argv[2], 53), Names).serve_forever()
else:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Maps)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
