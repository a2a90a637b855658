"""A mistake in an argument is raised when the watcher is made, and names the argument, what is wrong, and what is allowed."""

import pathlib
import tempfile
import unittest

from opflex_peerstatus import Cursor, PeerStatus, Watcher, arguments

TLS = "https://leaf.example"


class Arguments(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def refused(self, kind, *texts, **given):
        with self.assertRaises(kind) as raised:
            Watcher(**given)
        named = given.keys() - {"server"} or given.keys()
        for text in (*named, *texts):
            self.assertIn(text, str(raised.exception), given)

    def test_globs(self):
        for name in ("pools", "peers", "nodes"):
            self.refused(TypeError, f"{name}=['default']", **{name: "default"})
            for wrong in (b"default", None, 7, ["default", None], [b"default"]):
                self.refused(TypeError, "a list of globs is expected", **{name: wrong})
            for good in ([], ["a", "b"], ("a",), {"a"}, (glob for glob in "ab")):
                Watcher(**{name: good})

    def test_statuses(self):
        for wrong in (["READY"], "READY", PeerStatus.READY, None, [None], b"READY"):
            self.refused(TypeError, "statuses=[PeerStatus.READY]", "PeerStatus.CLOSING", statuses=wrong)
        watcher = Watcher(statuses={PeerStatus.READY, 5})
        self.assertEqual(set(watcher._session.filter.statuses), {4, 5})

    def test_a_cursor_or_its_text(self):
        for wrong in ("abc", "", "1.", f"1.{2**64}"):
            self.refused(ValueError, repr(wrong), "EPOCH.REVISION", resume_after=wrong)
        self.refused(TypeError, "EPOCH.REVISION", resume_after=7)
        for good in ("7.5", Cursor(7, 5)):
            self.assertEqual(Watcher(resume_after=good).cursor, Cursor(7, 5))

    def test_the_server(self):
        for wrong in ("", ":1", "leaf:", "leaf:0", "leaf:65536", "leaf:x", "::1", "ftp://leaf:1", "a b:1", "u@leaf:1", "leaf/p", "https://"):
            self.refused(ValueError, repr(wrong), "HOST:PORT", "1 to 65535", server=wrong)
        for wrong in ("unix:", "unix:relative"):
            self.refused(ValueError, "unix:/PATH", server=wrong)
        self.refused(TypeError, "HOST:PORT", server=None)
        for text, address in (
            ("leaf", ("leaf:50051", False)),
            ("http://leaf:1234/", ("leaf:1234", False)),
            ("HTTPS://[::1]", ("[::1]:50051", True)),
            ("unix:///run/a b.sock", ("unix:/run/a b.sock", False)),
        ):
            self.assertEqual(arguments.address(text), address)

    def test_a_token_stays_on_this_machine_unless_there_is_tls(self):
        for server in ("leaf.example:50051", "127.evil.example", "10.0.0.1"):
            self.refused(ValueError, "plaintext", server=server, token=lambda: "secret")
        for server in ("localhost", "127.0.0.2:1", "[::1]", "unix:/run/socket", TLS):
            Watcher(server, token=lambda: "secret")

    def test_tokens(self):
        self.refused(ValueError, "exclude", token=lambda: "secret", token_file="file")
        self.refused(TypeError, "a function", token="secret")
        self.refused(FileNotFoundError, "cannot be read", str(self.folder / "none"), token_file=self.folder / "none")
        for text, wrong in (("", "is empty"), (" \n", "is empty"), ("a\nb", "printable ASCII"), ("ä", "printable ASCII")):
            self.refused(ValueError, "secret-file", wrong, token_file=self.file("secret-file", text))
        watcher = Watcher(token_file=self.file("token", "secret\n"))
        self.assertEqual(watcher._metadata(), (("authorization", "Bearer secret"),))
        for wrong in (None, b"secret", "a\n"):
            with self.assertRaisesRegex(TypeError, "token returned"):
                Watcher(token=lambda value=wrong: value)._metadata()

    def test_files_of_tls(self):
        self.refused(ValueError, "https://", ca="ca.pem")
        self.refused(ValueError, "key need each other", server=TLS, certificate="cert.pem")
        missing, text = str(self.folder / "none"), self.file("text", "text")
        certificate = self.file("pem", "-----BEGIN CERTIFICATE-----\n")
        self.refused(FileNotFoundError, missing, "ca cannot be read", server=TLS, ca=missing)
        self.refused(IsADirectoryError, "ca cannot be read", server=TLS, ca=self.folder)
        self.refused(ValueError, str(text), "-----BEGIN CERTIFICATE-----", server=TLS, ca=text)
        with self.assertRaisesRegex(ValueError, "^key: .*-----BEGIN PRIVATE KEY-----"):
            Watcher(TLS, certificate=certificate, key=text)

    def test_other_values(self):
        self.refused(TypeError, "a string is expected", listener=None)
        self.refused(TypeError, "bytes are expected", user_data="text")

    def test_a_file_that_is_replaced_badly_is_reported_and_read_again(self):
        for break_it in (lambda path: path.write_text(""), lambda path: path.unlink()):
            token = self.file("token", "secret")
            watcher = Watcher("127.0.0.1:1", token_file=token)
            break_it(token)
            self.assertIn("token_file", next(iter(watcher)).error)


if __name__ == "__main__":
    unittest.main()
