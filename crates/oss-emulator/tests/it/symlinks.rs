//! Symbolic links.

use http::Method;
use oss_emulator::EmulatorConfig;

use crate::client::{Call, Server, Signing, config, start};

fn link(key: &str, target: &str) -> Call {
    Call::put(key, b"").query("symlink", "").header("x-oss-symlink-target", target)
}

#[tokio::test]
async fn a_link_shows_its_target() {
    let (_server, mut client) = start().await;
    let put = client.call(Call::put("dir/a b", b"hello world").header("content-type", "text/plain")).await.expect(200);
    let made = link("link", "dir%2Fa%20b").header("content-type", "image/png").header("x-oss-meta-colour", "blue");
    client.call(made).await.expect(200);
    let read = client.call(Call::get("link")).await.expect(200);
    assert_eq!(read.body, b"hello world");
    let head = client.call(Call::head("link")).await.expect(200);
    for answer in [&read, &head] {
        for name in ["etag", "content-md5", "x-oss-hash-crc64ecma"] {
            assert_eq!(answer.header(name), put.header(name), "{name}");
        }
        for (name, value) in [
            ("content-length", "11"),
            ("content-type", "image/png"),
            ("x-oss-meta-colour", "blue"),
            ("x-oss-object-type", "Symlink"),
            ("x-oss-symlink-target", ""),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
    }
    let part = Call::get("link").header("range", "bytes=6-").header("x-oss-range-behavior", "standard");
    assert_eq!(client.call(part).await.expect(206).body, b"world");
    let matched = Call::get("link").header("if-none-match", put.header("etag"));
    client.call(matched).await.expect(304);

    let told = client.call(Call::get("link").query("symlink", "")).await.expect(200);
    assert_eq!(told.header("x-oss-symlink-target"), "dir%2Fa%20b");
    assert_eq!(told.header("x-oss-meta-colour"), "blue");
    assert_eq!(told.body, b"");
    // The link's own description is that of an object without content.
    let meta = client.call(Call::head("link").query("objectMeta", "")).await.expect(200);
    assert_eq!(meta.header("content-length"), "0");
    assert_ne!(meta.header("etag"), put.header("etag"));
    let list = client.call(Call::bucket(Method::GET).query("prefix", "link")).await.expect(200);
    assert_eq!((list.element("Type"), list.element("Size")), ("Symlink", "0"));
}

#[tokio::test]
async fn a_link_follows_what_becomes_of_its_target() {
    let (_server, mut client) = start().await;
    client.call(link("link", "later")).await.expect(200);
    let broken = client.call(Call::get("link")).await.refused(404, "SymlinkTargetNotExist");
    assert_eq!(broken.error().get("TargetKey"), Some("later"));
    client.call(Call::head("link")).await.refused(404, "SymlinkTargetNotExist");
    client.call(Call::put("later", b"1")).await.expect(200);
    assert_eq!(client.call(Call::get("link")).await.expect(200).body, b"1");
    client.call(Call::put("later", b"22")).await.expect(200);
    assert_eq!(client.call(Call::get("link")).await.expect(200).body, b"22");
    // Deleting the link leaves the target.
    client.call(Call::object(Method::DELETE, "link")).await.expect(204);
    client.call(Call::get("link")).await.refused(404, "NoSuchKey");
    client.call(Call::get("later")).await.expect(200);
}

#[tokio::test]
async fn links_are_checked() {
    let (_server, mut client) = start().await;
    client.call(Call::put("plain", b"1")).await.expect(200);
    client.call(Call::put("new", b"").query("symlink", "")).await.refused(400, "MissingArgument");
    for target in ["%2Fkey", "%zz", "%FF", &"k".repeat(1024)] {
        client.call(link("new", target)).await.refused(400, "InvalidArgument");
    }
    client.call(Call::get("new")).await.refused(404, "NoSuchKey");
    client.call(link("plain", "x").header("x-oss-forbid-overwrite", "true")).await.refused(409, "FileAlreadyExists");
    client.call(Call::get("plain").query("symlink", "")).await.refused(400, "NotSymlink");
    client.call(Call::get("missing").query("symlink", "")).await.refused(404, "NoSuchKey");
    client.call(link("first", "plain")).await.expect(200);
    client.call(link("second", "first")).await.expect(200);
    client.call(Call::get("second")).await.refused(400, "InvalidTargetType");
    let append = Call::object(Method::POST, "first").query("append", "").query("position", "0").body(b"2");
    client.call(append).await.refused(409, "ObjectNotAppendable");
    // Writing to the key of a link replaces the link and leaves its target.
    client.call(Call::put("first", b"own content")).await.expect(200);
    assert_eq!(client.call(Call::get("plain")).await.body, b"1");
    assert_eq!(client.call(Call::get("second")).await.expect(200).body, b"own content");
}

#[tokio::test]
async fn a_copy_of_a_link_is_a_link() {
    let (_server, mut client) = start().await;
    client.call(Call::put("target", b"1")).await.expect(200);
    client.call(link("link", "target")).await.expect(200);
    for directive in ["COPY", "REPLACE"] {
        let copy = Call::put("copied", b"")
            .header("x-oss-copy-source", "/examplebucket/link")
            .header("x-oss-metadata-directive", directive);
        client.call(copy).await.expect(200);
        let told = client.call(Call::get("copied").query("symlink", "")).await.expect(200);
        assert_eq!(told.header("x-oss-symlink-target"), "target", "{directive}");
        assert_eq!(client.call(Call::get("copied")).await.expect(200).body, b"1");
    }
}

#[tokio::test]
async fn both_rules_count_for_anyone() {
    let (server, mut owner) = start().await;
    owner.call(Call::put("closed", b"1")).await.expect(200);
    owner.call(Call::put("open", b"2").header("x-oss-object-acl", "public-read")).await.expect(200);
    for (key, target, rule) in
        [("to-closed", "closed", "public-read"), ("to-open", "open", "public-read"), ("private", "open", "private")]
    {
        owner.call(link(key, target).header("x-oss-object-acl", rule)).await.expect(200);
    }
    let mut anyone = server.connect().await;
    anyone.signing = Signing::None;
    anyone.call(Call::get("to-closed")).await.refused(403, "AccessDenied");
    anyone.call(Call::get("private")).await.refused(403, "AccessDenied");
    assert_eq!(anyone.call(Call::get("to-open")).await.expect(200).body, b"2");
    anyone.call(link("mine", "open")).await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn links_tags_and_restorations_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let kept = || EmulatorConfig { root: Some(directory.path().to_owned()), ..config() };
    let server = Server::start(kept()).await;
    let mut client = server.connect().await;
    let put = Call::put("target", b"1").header("x-oss-tagging", "a=1").header("x-oss-storage-class", "Archive");
    client.call(put).await.expect(200);
    client.call(link("link", "target")).await.expect(200);
    client.call(Call::object(Method::POST, "target").query("restore", "")).await.expect(202);
    server.stop().await;
    let server = Server::start(kept()).await;
    let mut client = server.connect().await;
    let told = client.call(Call::get("link").query("symlink", "")).await.expect(200);
    assert_eq!(told.header("x-oss-symlink-target"), "target");
    let head = client.call(Call::head("target")).await.expect(200);
    assert_eq!(head.header("x-oss-tagging-count"), "1");
    assert!(head.header("x-oss-restore").starts_with("ongoing-request="), "{:?}", head.headers);
}
