//! A server process that is killed at random moments in a storm of uploads: what it acknowledged is whole when it is started
//! again, and what it did not is whole or not there at all.
//!
//! The process is this test binary again, told by its environment to run [`serve_until_killed`] alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use oss_emulator::{Emulator, EmulatorConfig};
use oss_protocol::crc64::checksum;
use oss_protocol::xml::Document;
use oss_protocol::xml::list::ListObjectsV2Result;
use oss_protocol::xml::multipart::{CompleteMultipartUpload, CompletedPart};
use tokio::task::JoinSet;

use crate::client::{BUCKET, Call, Client, config, pattern};

const ROOT: &str = "OSS_EMULATOR_CRASH_ROOT";

/// How often the server is killed. Each kill finds eight writers somewhere between a first byte and an answer.
const KILLS: u64 = 12;

const WRITERS: u64 = 8;

/// Few keys for each writer, so that most writes replace something.
const KEYS: u64 = 5;

/// The server process. It is a test only in form, and does nothing unless [`Victim::start`] starts it.
#[tokio::test]
async fn serve_until_killed() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let emulator = Emulator::bind(EmulatorConfig { root: Some(root.into()), ..config() }).await.unwrap();
    // Straight to the file descriptor: the harness keeps what is printed for itself until the test ends.
    std::io::Write::write_all(&mut std::io::stderr(), format!("listening {}\n", emulator.local_addr()).as_bytes())
        .unwrap();
    emulator.serve(std::future::pending()).await.unwrap();
}

/// A server in a process of its own.
pub(crate) struct Victim {
    process: Child,
    pub(crate) authority: String,
}

impl Victim {
    pub(crate) fn start(root: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::serve_until_killed", "--nocapture"])
            .env(ROOT, root)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut before = Vec::new();
        let authority = loop {
            let Some(line) = lines.next() else {
                panic!("the server does not start with what a kill left:\n{}", before.join("\n"));
            };
            let line = line.unwrap();
            if let Some(authority) = line.strip_prefix("listening ") {
                break authority.to_owned();
            }
            before.push(line);
        };
        Self { process, authority }
    }

    pub(crate) fn kill(mut self) {
        // SIGKILL: the process gets no chance to tidy up.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

/// The allowed contents of one key: the last acknowledged one, or the one whose answer never came.
#[derive(Debug, Default, Clone)]
struct Expected {
    acknowledged: Option<u64>,
    uncertain: Option<u64>,
}

/// The content of one version, which tells its number in every stretch, so that a mixture would not be taken for either.
fn content(version: u64) -> Vec<u8> {
    let sizes = [1, 17, 5_000, 200_000, 1_500_000];
    let size = sizes[(version % 5) as usize] + version as usize % 97;
    version.to_le_bytes().into_iter().cycle().zip(pattern(size)).map(|(number, byte)| number ^ byte).collect()
}

/// Puts an object, by parts one time in three; `None` when the server died under it.
async fn put(client: &mut Client, key: &str, version: u64) -> Option<()> {
    let body = content(version);
    if !version.is_multiple_of(3) {
        client.try_call(Call::put(key, &body)).await?.expect(200);
        return Some(());
    }
    let initiated = client.try_call(Call::object(Method::POST, key).query("uploads", "")).await?.expect(200);
    let id = initiated.element("UploadId").to_owned();
    let mut parts = Vec::new();
    // Only the last part may be smaller than this.
    let (first, last) = body.split_at(body.len().min(102_400));
    for (number, part) in (1..).zip([first, last].into_iter().filter(|part| !part.is_empty())) {
        let call =
            Call::object(Method::PUT, key).query("partNumber", &number.to_string()).query("uploadId", &id).body(part);
        let etag = client.try_call(call).await?.expect(200).header("etag").to_owned();
        parts.push(CompletedPart { part_number: number, etag });
    }
    let list = CompleteMultipartUpload { parts }.to_xml();
    let call = Call::object(Method::POST, key).query("uploadId", &id).body(list.as_bytes());
    client.try_call(call).await?.expect(200);
    Some(())
}

/// Writes until the server dies, and returns what was acknowledged.
async fn write(
    mut client: Client,
    writer: u64,
    round: u64,
    mut expected: BTreeMap<String, Expected>,
    started: Arc<AtomicBool>,
) -> BTreeMap<String, Expected> {
    for step in 0.. {
        let key = format!("writer-{writer}/{}", step % KEYS);
        let version = (round * 100_000 + step) * WRITERS + writer;
        let state = expected.entry(key.clone()).or_default();
        state.uncertain = Some(version);
        if put(&mut client, &key, version).await.is_none() {
            break;
        }
        *state = Expected { acknowledged: Some(version), uncertain: None };
        started.store(true, Ordering::Relaxed);
    }
    expected
}

/// Reads every object back and compares it with what it may be.
async fn check(client: &mut Client, expected: &mut BTreeMap<String, Expected>) {
    let list = Call::bucket(Method::GET).query("list-type", "2").query("max-keys", "1000");
    let listed = ListObjectsV2Result::parse(&client.call(list).await.expect(200).body).unwrap();
    for object in &listed.contents {
        assert!(expected.contains_key(&object.key), "{} was never written", object.key);
    }
    for (key, state) in expected {
        let got = client.call(Call::get(key)).await;
        if got.status == 404 {
            assert_eq!(state.acknowledged, None, "{key} is lost: {state:?}");
            *state = Expected::default();
            continue;
        }
        let got = got.expect(200);
        assert_eq!(got.header("x-oss-hash-crc64ecma"), checksum(&got.body).to_string(), "{key} is torn: {state:?}");
        let found = [state.acknowledged, state.uncertain].into_iter().flatten().find(|it| content(*it) == got.body);
        assert!(found.is_some(), "{key} holds {} bytes of neither version: {state:?}", got.body.len());
        assert_eq!(listed.contents.iter().filter(|object| object.key == *key).count(), 1, "{key}");
        *state = Expected { acknowledged: found, uncertain: None };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut all: Vec<BTreeMap<String, Expected>> = vec![BTreeMap::new(); WRITERS as usize];
    for round in 0..KILLS {
        let victim = Victim::start(directory.path());
        let mut client = Client::to(&victim.authority).await;
        let mut together = all.iter().flatten().map(|(key, state)| (key.clone(), state.clone())).collect();
        check(&mut client, &mut together).await;
        for (writer, expected) in all.iter_mut().enumerate() {
            let own = format!("writer-{writer}/");
            *expected = together
                .iter()
                .filter(|(key, _)| key.starts_with(&own))
                .map(|(key, state)| (key.clone(), state.clone()))
                .collect();
        }
        let started = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for (writer, expected) in (0..).zip(std::mem::take(&mut all)) {
            let client = Client::to(&victim.authority).await;
            let started = Arc::clone(&started);
            writers.spawn(async move { (writer, write(client, writer, round, expected, started).await) });
        }
        while !started.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        // The moment is what varies, not what is waited for: any will do.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..60))).await;
        victim.kill();
        let mut ended: Vec<(u64, BTreeMap<String, Expected>)> = writers.join_all().await;
        ended.sort_by_key(|(writer, _)| *writer);
        all = ended.into_iter().map(|(_, expected)| expected).collect();
    }
    let victim = Victim::start(directory.path());
    let mut client = Client::to(&victim.authority).await;
    let mut together: BTreeMap<_, _> = all.into_iter().flatten().collect();
    check(&mut client, &mut together).await;
    assert!(together.values().any(|state| state.acknowledged.is_some()));
}

#[tokio::test]
async fn an_upload_under_way_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let victim = Victim::start(directory.path());
    let mut client = Client::to(&victim.authority).await;
    let id = crate::multipart::initiate(&mut client, "big").await;
    let first = crate::multipart::upload(&mut client, "big", &id, 1, &pattern(150_000)).await;
    victim.kill();

    let victim = Victim::start(directory.path());
    let mut client = Client::to(&victim.authority).await;
    let second = crate::multipart::upload(&mut client, "big", &id, 2, b"tail").await;
    crate::multipart::complete(&mut client, "big", &id, &[first, second]).await.expect(200);
    victim.kill();

    let victim = Victim::start(directory.path());
    let mut client = Client::to(&victim.authority).await;
    let got = client.call(Call::get("big")).await.expect(200);
    assert!(got.body == [&pattern(150_000)[..], b"tail"].concat());
    let uploads = client.call(Call::bucket(Method::GET).query("uploads", "")).await.expect(200);
    assert!(!uploads.text().contains("<Upload>"), "{}", uploads.text());
    assert!(uploads.text().contains(BUCKET));
}
