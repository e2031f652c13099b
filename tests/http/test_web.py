"""The pages: types, policy, revalidation, and nothing from elsewhere."""
import os
import re

from harness import ROOT, Case, Server

WEB = os.path.join(ROOT, "server/web")
FILES = sorted(os.listdir(WEB))
PAGES = {"/": "index.html", "/docs": "docs.html"}
TYPES = {".html": "text/html; charset=utf-8",
         ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8",
         ".svg": "image/svg+xml"}


def text(name):
    with open(os.path.join(WEB, name), encoding="utf-8") as file:
        return file.read()


class Web(Case):
    def all(self):
        for path, name in PAGES.items():
            yield path, name
        for name in FILES:
            yield "/web/" + name, name

    def test_every_file_as_it_is(self):
        for path, name in self.all():
            r = self.s.get(path)
            self.assertEqual(r.status, 200, path)
            self.assertEqual(r.body.decode(), text(name))
            self.assertEqual(r.headers["Content-Type"],
                             TYPES[os.path.splitext(name)[1]])

    def test_headers(self):
        for path, _ in self.all():
            headers = self.s.get(path).headers
            policy = headers["Content-Security-Policy"]
            self.assertIn("default-src 'self';", policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertNotIn("*", policy)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(headers["Referrer-Policy"], "no-referrer")
            self.assertEqual(headers["Cache-Control"], "no-cache")

    def test_revalidation(self):
        for path, _ in self.all():
            tag = self.s.get(path).headers["ETag"]
            self.assertRegex(tag, r'^"\w+"$')
            for held in (tag, f'"other", W/{tag}', "*"):
                r = self.s.get(path, headers={"If-None-Match": held})
                self.assertEqual((r.status, r.body), (304, b""), held)
                self.assertEqual(r.headers["ETag"], tag)
            for held in ('"other"', tag[:-2] + '"', "", tag.strip('"')):
                r = self.s.get(path, headers={"If-None-Match": held})
                self.assertEqual(r.status, 200, held)

    def test_head(self):
        for path, name in self.all():
            r = self.s.request("HEAD", path)
            self.assertEqual((r.status, r.body), (200, b""))
            self.assertEqual(int(r.headers["Content-Length"]),
                             len(text(name).encode()))

    def test_not_there(self):
        for path in ("/web/", "/web", "/web/none.js", "/web/../index.html",
                     "/web/%2e%2e/web.c", "/web//app.js", "/web/app.js/",
                     "/web/APP.JS", "/index.html", "/favicon.ico"):
            self.assert_error(self.s.get(path), 404)
        self.assert_error(self.s.post("/", {}), 405)
        self.assert_error(self.s.post("/web/app.js", {}), 405)

    def test_needs_no_key(self):
        s = Server({"api-keys": "secret-1"})
        try:
            for path, _ in self.all():
                self.assertEqual(s.get(path).status, 200, path)
        finally:
            self.assertEqual(s.stop(), 0)

    def test_nothing_from_elsewhere(self):
        """No URL of another host, and nothing that the policy would refuse."""
        for name in FILES:
            bare = text(name).replace('"http://www.w3.org/2000/svg"', "")
            self.assertNotRegex(bare, r"(?i)(https?:)?//[a-z0-9-]+\.[a-z]", name)
            self.assertNotIn("innerHTML", bare, name)
            if name.endswith(".html"):
                self.assertNotRegex(bare, r"\s(style|on\w+)=", name)
                self.assertNotIn("<style", bare, name)
                for tag in re.findall(r"<script[^>]*>", bare):
                    self.assertIn(" src=", tag)

    def test_references_exist(self):
        for name in FILES:
            pattern = (r'(?:href|src)="web/([^"]+)"' if name.endswith(".html")
                       else r'from "\./([^"]+)"')
            for target in re.findall(pattern, text(name)):
                self.assertIn(target, FILES, name)
            if name.endswith(".html"):
                ids = re.findall(r'\sid="([^"]+)"', text(name))
                self.assertEqual(len(ids), len(set(ids)), "an id twice")
                for used in re.findall(
                        r'\s(?:for|aria-\w+by|aria-controls)="([^"]+)"',
                        text(name)):
                    self.assertTrue(set(used.split()) <= set(ids), used)
