#!/usr/bin/env python3
"""Makes the test images and writes them as the storage directory of a docker-registry.

usage: build.py ROOT OUT
  ROOT/busybox          a static busybox in its default configuration
  ROOT/nonewprivs       a static program that prints "Effective uid: N"
  ROOT/pause            a static program that reaps children and ends on SIGTERM
  ROOT/nginx, apache2   file trees with the program of that name and the libraries it needs
  OUT/registry          the storage, for Debian's docker-registry
  OUT/index.tsv         reference, top digest, image id, layers, bytes, one line per reference
  OUT/digest            the digest of test-image-digest, which critest pulls by digest
"""
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

DOCKER = {
    "config": "application/vnd.docker.container.image.v1+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
OCI = {
    "config": "application/vnd.oci.image.config.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
}
# The names that critest and kubelets have built in.
E2E = "registry.k8s.io/e2e-test-images/"
STAGING = "gcr.io/k8s-staging-cri-tools/"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """A tar, the same bytes for the same calls."""

    def __init__(self):
        self.tar_bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.tar_bytes, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, path, kind, mode, data=b"", link="", owner=(0, 0)):
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
        entry.uid, entry.gid = owner
        entry.mtime = 1700000000
        self.tar.addfile(entry, io.BytesIO(data))
        return self

    def dir(self, path, mode=0o755, owner=(0, 0)):
        return self.add(path, tarfile.DIRTYPE, mode, owner=owner)

    def dirs(self, *paths):
        for path in paths:
            self.dir(path)
        return self

    def file(self, path, data, mode=0o644):
        data = data if isinstance(data, bytes) else data.encode()
        return self.add(path, tarfile.REGTYPE, mode, data)

    def symlink(self, path, target):
        return self.add(path, tarfile.SYMTYPE, 0o777, link=target)

    def hardlink(self, path, target):
        return self.add(path, tarfile.LNKTYPE, 0o755, link=target)

    def tree(self, root):
        """Everything below the directory root."""
        for top, dirs, files in os.walk(root):
            dirs.sort()
            for name in sorted(dirs + files):
                full = os.path.join(top, name)
                path = os.path.relpath(full, root)
                mode = os.lstat(full).st_mode & 0o7777
                if os.path.islink(full):
                    self.symlink(path, os.readlink(full))
                elif os.path.isdir(full):
                    self.dir(path, mode)
                else:
                    self.file(path, read(full), mode)
        return self

    def seal(self):
        """(diff id, compressed bytes); the layer is complete after this."""
        if self.tar is not None:
            self.tar.close()
            self.tar = None
            raw = self.tar_bytes.getvalue()
            self.sealed = digest(raw), gzip.compress(raw, 6, mtime=0)
        return self.sealed


class Registry:
    """docker-registry's storage layout, version 2."""

    def __init__(self, out):
        self.base = os.path.join(out, "registry/docker/registry/v2")
        self.index = open(os.path.join(out, "index.tsv"), "w")

    def write(self, path, data):
        path = os.path.join(self.base, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)

    def blob(self, repo, data, link="_layers"):
        algorithm, value = digest(data).split(":")
        self.write(f"blobs/{algorithm}/{value[:2]}/{value}/data", data)
        self.write(f"repositories/{repo}/{link}/{algorithm}/{value}/link", digest(data).encode())

    def manifest(self, repo, data, tag=None):
        self.blob(repo, data, "_manifests/revisions")
        if tag:
            algorithm, value = digest(data).split(":")
            link = digest(data).encode()
            tags = f"repositories/{repo}/_manifests/tags/{tag}"
            self.write(f"{tags}/current/link", link)
            self.write(f"{tags}/index/{algorithm}/{value}/link", link)

    def image(self, names, layers, config, types=DOCKER, index=True):
        """Stores one image under every name and returns its top digest.

        With index, the top is an index whose first entry is for another architecture, so that a
        runtime has to choose.
        """
        sealed = [layer.seal() for layer in layers]
        config = {"Env": [PATH], **config}
        manifest, image_config = describe(sealed, config, types, "amd64")
        blobs, manifests, top = [z for _, z in sealed] + [image_config], [manifest], manifest
        if index:
            other, other_config = describe(sealed, config, types, "arm64")
            blobs.append(other_config)
            manifests.append(other)
            entries = [
                entry(other, types, architecture="arm64", os="linux", variant="v8"),
                entry(manifest, types, architecture="amd64", os="linux"),
            ]
            top = encode(schemaVersion=2, mediaType=types["index"], manifests=entries)
        for name in names:
            repo, tag = name.split("/", 1)[1].rsplit(":", 1)
            for blob in blobs:
                self.blob(repo, blob)
            for each in manifests:
                self.manifest(repo, each)
            self.manifest(repo, top, tag)
            size = sum(len(z) for _, z in sealed)
            print(name, digest(top), digest(image_config), len(layers), size, sep="\t", file=self.index)
        return digest(top)


def encode(**value):
    return json.dumps(value).encode()


def entry(manifest, types, **platform):
    return {"mediaType": types["manifest"], "digest": digest(manifest), "size": len(manifest), "platform": platform}


def describe(sealed, config, types, architecture):
    """(manifest, image configuration) of sealed layers."""
    created = "2026-01-01T00:00:00Z"
    image_config = encode(
        architecture=architecture, os="linux", created=created, config=config,
        rootfs={"type": "layers", "diff_ids": [diff_id for diff_id, _ in sealed]},
        history=[{"created": created, "created_by": "skiff"} for _ in sealed],
    )
    manifest = encode(
        schemaVersion=2, mediaType=types["manifest"],
        config={"mediaType": types["config"], "digest": digest(image_config), "size": len(image_config)},
        layers=[{"mediaType": types["layer"], "digest": digest(z), "size": len(z)} for _, z in sealed],
    )
    return manifest, image_config


def read(path):
    with open(path, "rb") as f:
        return f.read()


PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
www-data:x:33:
operator:x:37:
users:x:100:
nogroup:x:65534:
"""


def busybox(root):
    """The base layer. Applets are hard links: a spec of critest masks /bin/ls, and behind a
    symbolic link it would mask all of busybox."""
    program = os.path.join(root, "busybox")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    layer = Layer().dirs("bin", "dev", "etc", "home", "usr", "usr/sbin", "usr/bin", "var", "var/www",
                         "var/spool", "var/spool/mail")
    layer.dir("root", 0o700).dir("tmp", 0o1777)
    layer.file("bin/busybox", read(program), 0o755)
    for applet in sorted(set(applets) - {"busybox"}):
        layer.hardlink("bin/" + applet, "bin/busybox")
    layer.symlink("usr/bin/env", "../../bin/env")
    return layer.file("etc/passwd", PASSWD).file("etc/group", GROUP)


def nginx(root, port):
    layer = Layer().tree(os.path.join(root, "nginx"))
    layer.dirs("var/log", "var/log/nginx", "var/run", "run", "var/lib", "var/lib/nginx", "usr/share",
               "usr/share/nginx", "usr/share/nginx/html", "etc/nginx")
    layer.symlink("var/log/nginx/access.log", "/dev/stdout").symlink("var/log/nginx/error.log", "/dev/stderr")
    layer.file("usr/share/nginx/html/index.html", "<html><title>Welcome to nginx!</title></html>\n")
    return layer.file("etc/nginx/nginx.conf", f"""user www-data;
worker_processes 1;
error_log /var/log/nginx/error.log warn;
pid /var/run/nginx.pid;
events {{ worker_connections 256; }}
http {{
  access_log /var/log/nginx/access.log;
  server {{ listen {port}; location / {{ root /usr/share/nginx/html; }} }}
}}
""")


def httpd(root):
    layer = Layer().tree(os.path.join(root, "apache2"))
    layer.dirs("usr/local", "usr/local/bin", "usr/local/apache2", "usr/local/apache2/htdocs",
               "usr/local/apache2/conf", "usr/local/apache2/logs", "var/log", "run")
    layer.hardlink("usr/local/bin/httpd", "usr/sbin/apache2")
    layer.file("usr/local/apache2/htdocs/index.html", "<html><body><h1>It works!</h1></body></html>\n")
    modules = "".join(
        f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n" for m in ("mpm_event", "authz_core", "dir"))
    layer.file("usr/local/apache2/conf/httpd.conf", f"""ServerRoot "/usr/local/apache2"
ServerName localhost
Listen 80
PidFile logs/httpd.pid
DefaultRuntimeDir logs
{modules}User www-data
Group www-data
DocumentRoot "/usr/local/apache2/htdocs"
<Directory "/usr/local/apache2/htdocs">
  Require all granted
</Directory>
DirectoryIndex index.html
ErrorLog /proc/self/fd/2
LogLevel notice
""")
    return layer.file("usr/local/bin/httpd-foreground", """#!/bin/sh
set -e
rm -f /usr/local/apache2/logs/httpd.pid
exec httpd -f /usr/local/apache2/conf/httpd.conf -DFOREGROUND "$@"
""", 0o755)


def main(root, out):
    registry = Registry(out)
    base = busybox(root)
    shell = {"Cmd": ["sh"]}
    registry.image([E2E + "busybox:1.29-2"], [base], shell)
    registry.image([E2E + "busybox:1.29-4"], [base], shell, types=OCI)

    serve = {"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    registry.image([E2E + "nginx:1.14-2"], [base, nginx(root, 80)], serve)
    registry.image([STAGING + "hostnet-nginx-amd64:latest"], [base, nginx(root, 12003)], serve, index=False)
    registry.image([E2E + "httpd:2.4.39-4"], [base, httpd(root)], {
        "Cmd": ["httpd-foreground"], "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/usr/local/apache2",
        "StopSignal": "SIGWINCH"})

    setuid = Layer().file("nnp", read(os.path.join(root, "nonewprivs")), 0o4755)
    registry.image([E2E + "nonewprivs:1.3"], [base, setuid], {"Entrypoint": ["/nnp"]})

    users = {"uid": "1002", "username": "www-data", "uid-group": "1003:1004", "username-group": "www-data:1004"}
    for name, user in users.items():
        registry.image([f"{STAGING}test-image-user-{name}:latest"], [base], {**shell, "User": user})
    groups = Layer()
    groups.file("etc/passwd", PASSWD + "default-user:x:1000:1000::/home/default-user:/bin/sh\n")
    groups.file("etc/group", GROUP + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
    groups.dir("home/default-user", 0o2755, owner=(1000, 1000))
    registry.image([STAGING + "test-image-predefined-group:latest"], [base, groups], {**shell, "User": "1000"})

    def marked(name):
        return [base, Layer().file(name, b"")]

    for name in ("test-image-1", "test-image-2", "test-image-3", "test-image-latest"):
        registry.image([f"{STAGING}{name}:latest"], marked(name), shell)
    registry.image([f"{STAGING}test-image-tags:{i}" for i in (1, 2, 3)], marked("same-image"), shell)
    registry.image([STAGING + "test-image-tag:test"], marked("test"), shell)
    registry.image([STAGING + "test-image-tag:all"], marked("all"), shell)
    by_digest = registry.image([STAGING + "test-image-digest:latest"], marked("test-image-digest"), shell, index=False)

    # 3.10 is what peers run as the sandbox's container; 3.9 is pulled from two registries and
    # removed again by critest, so it has to differ.
    pause = read(os.path.join(root, "pause"))
    config = {"Entrypoint": ["/pause"], "User": "65535:65535", "WorkingDir": "/"}
    registry.image(["registry.k8s.io/pause:3.10"], [Layer().file("pause", pause, 0o755)], config)
    old = Layer().file("pause", pause, 0o755).file("version", "3.9\n")
    registry.image(["registry.k8s.io/pause:3.9", "k8s.gcr.io/pause:3.9"], [old], config)

    registry.index.close()
    with open(os.path.join(out, "digest"), "w") as f:
        f.write(by_digest + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
