//! Files in the place of objects.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use oss_client::{
    Client, ClientConfig, ErrorKind, credentials::StaticCredentials, local::Walk, ops::get::Slice, reader::ObjectReader,
};
use proptest::prelude::*;

use crate::support::pattern;

fn client() -> Client {
    Client::new(ClientConfig::new(None, ""), Arc::new(StaticCredentials(None))).unwrap()
}

/// Bucket and key of a path.
fn place(path: &Path) -> (String, String) {
    let (bucket, key) = path.to_str().unwrap()[1..].split_once('/').unwrap();
    (bucket.to_owned(), key.to_owned())
}

fn write(root: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// Keys below `root` that a walk from `root/start` finds, without what they share.
fn walked(root: &Path, start: &str, count: usize) -> oss_client::Result<Vec<String>> {
    let (bucket, key) = place(&root.join(""));
    let mut walk = Walk::new(&bucket, &format!("{key}{start}"))?;
    let mut names = Vec::new();
    loop {
        let page = walk.next(count)?;
        if page.is_empty() {
            return Ok(names);
        }
        assert!(page.len() <= count);
        names.extend(page.iter().map(|entry| entry.key.strip_prefix(&key).unwrap().to_owned()));
    }
}

#[test]
fn files_come_in_the_order_of_their_keys_bytes() {
    let root = tempfile::tempdir().unwrap();
    let mut names = ["a/b", "a-b", "a.b", "a/c/d", "a0", "b", "ä/ö", "Z", "a/", "a b/c"].map(str::to_owned).to_vec();
    names.retain(|name| !name.ends_with('/'));
    for name in &names {
        write(root.path(), name, b"");
    }
    names.sort();
    for count in [1, 3, 1000] {
        assert_eq!(walked(root.path(), "", count).unwrap(), names);
    }
    assert_eq!(walked(root.path(), "a/", 2).unwrap(), ["a/b", "a/c/d"]);
    assert_eq!(walked(root.path(), "a", 2).unwrap(), ["a b/c", "a-b", "a.b", "a/b", "a/c/d", "a0"]);
    assert_eq!(walked(root.path(), "a/c/x", 2).unwrap(), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_prefix_finds_what_a_listing_would(
        files in prop::collection::btree_map("[ab]{1,2}(/[ab.]{1,2}x){0,2}", 0_usize..50, 0..12),
        prefix in "([ab]{1,2}/)?[ab.]{0,2}",
        count in 1_usize..5,
    ) {
        let root = tempfile::tempdir().unwrap();
        // A path that is a directory already cannot be a file too.
        let mut made = BTreeMap::new();
        for (name, size) in files {
            let path = root.path().join(&name);
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.is_dir() {
                fs::write(path, pattern(size)).unwrap();
                made.insert(name, size);
            }
        }
        let expected: Vec<_> = made.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        match walked(root.path(), &prefix, count) {
            Ok(names) => prop_assert_eq!(names, expected),
            Err(error) => {
                // The directory that the prefix lies in does not exist, or is a file.
                prop_assert!(prefix.contains('/') && matches!(error.kind(), ErrorKind::File(..)), "{}", error);
                prop_assert!(expected.is_empty());
            }
        }
    }
}

#[test]
fn symbolic_links_are_followed_and_loops_reported() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "real/one", b"1");
    symlink(root.path().join("real"), root.path().join("linked")).unwrap();
    symlink(root.path().join("real/one"), root.path().join("file")).unwrap();
    assert_eq!(walked(root.path(), "", 10).unwrap(), ["file", "linked/one", "real/one"]);

    symlink(root.path(), root.path().join("real/up")).unwrap();
    let error = walked(root.path(), "", 10).unwrap_err().to_string();
    assert!(error.contains("linked/up") && error.contains("a directory that it lies in"), "{error}");
}

#[test]
fn what_cannot_be_an_object_is_reported_by_its_path() {
    let root = tempfile::tempdir().unwrap();
    assert!(walked(root.path(), "absent/", 10).unwrap_err().is_not_found());
    symlink("nowhere", root.path().join("dangling")).unwrap();
    let error = walked(root.path(), "", 10).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("dangling"), "{error}");
    fs::remove_file(root.path().join("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let error = walked(root.path(), "", 10).unwrap_err().to_string();
    assert!(error.contains("socket is neither a file nor a directory"), "{error}");
}

#[tokio::test]
async fn files_are_read_whole_and_by_range() {
    let root = tempfile::tempdir().unwrap();
    let content = pattern(100_000);
    let (bucket, key) = place(&write(root.path(), "sub/file", &content));
    let client = client();
    let fetched = client.get(&bucket, &key, u64::MAX).await.unwrap();
    assert_eq!(&fetched.bytes.unwrap()[..], content);
    assert!(client.get(&bucket, &key, 99_999).await.unwrap().bytes.is_none());
    let reader = ObjectReader::open(client.clone(), &bucket, &key).await.unwrap();
    let mut part = vec![0; 50_000];
    assert_eq!(reader.read_at(70_000, &mut part).await.unwrap(), 30_000);
    assert_eq!(part[..30_000], content[70_000..]);
    let (mut one, mut other) = ([0; 10], [0; 20]);
    let slices = &mut [Slice::Keep(&mut one), Slice::Skip(7), Slice::Keep(&mut []), Slice::Keep(&mut other)];
    client.get_scattered(&bucket, &key, &reader.meta().etag, 5, slices).await.unwrap();
    assert_eq!((&one[..], &other[..]), (&content[5..15], &content[22..42]));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let path = write(root.path(), "file", &pattern(100));
    let (bucket, key) = place(&path);
    let reader = ObjectReader::open(client(), &bucket, &key).await.unwrap();
    fs::write(&path, pattern(101)).unwrap();
    let error = reader.read_at(0, &mut [0; 10]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Changed(_)), "{error}");
}

#[tokio::test]
async fn faults_of_files_are_reported_and_nothing_is_sent() {
    let root = tempfile::tempdir().unwrap();
    let (bucket, key) = place(&root.path().join("absent"));
    let client = client();
    let error = client.get(&bucket, &key, u64::MAX).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("absent"), "{error}");
    let error = client.head(&bucket, key.trim_end_matches("absent")).await.unwrap_err().to_string();
    assert!(error.contains("neither a file"), "{error}");
    let error = client.delete(&bucket, &key).await.unwrap_err().to_string();
    assert!(error.contains("only read"), "{error}");
}
