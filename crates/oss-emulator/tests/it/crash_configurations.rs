//! A server that is killed while buckets and objects are configured: after a restart each configuration is the last
//! acknowledged one or the one whose answer never came, and whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use crate::client::{Call, Client};
use crate::crash::Victim;

const KILLS: u64 = 8;

/// Configurations by their sub-resource; the last one is that of an object.
const KINDS: [&str; 5] = ["lifecycle", "policy", "tagging", "website", "object"];

/// What a configuration may be: a version, or none.
type Allowed = Vec<Option<u64>>;

fn of(kind: &str, method: Method) -> Call {
    if kind == "object" {
        Call::object(method, "key").query("tagging", "")
    } else {
        Call::bucket(method).query(kind, "")
    }
}

/// A document that tells its version in every stretch.
fn document(kind: &str, version: u64) -> String {
    let many = |count: usize, entry: &dyn Fn(usize) -> String| (0..count).map(entry).collect::<Vec<_>>();
    match kind {
        "lifecycle" => {
            let rule = |at| {
                format!(
                    "<Rule><ID>{version}-{at}</ID><Prefix>{version}/{at}/</Prefix><Status>Enabled</Status><Expiration><Days>{version}</Days></Expiration></Rule>"
                )
            };
            format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", many(500, &rule).concat())
        }
        "policy" => {
            let statement = |at| {
                format!(
                    r#"{{"Effect":"Deny","Action":"oss:PutObject","Principal":["nobody"],"Resource":"acs:oss:*:*:examplebucket/{version}/{at}"}}"#
                )
            };
            format!(r#"{{"Version":"1","Statement":[{}]}}"#, many(100, &statement).join(","))
        }
        "website" => format!(
            "<WebsiteConfiguration><IndexDocument><Suffix>{version}</Suffix></IndexDocument><ErrorDocument><Key>{version}</Key></ErrorDocument></WebsiteConfiguration>"
        ),
        _ => {
            let tag = |at| format!("<Tag><Key>{at}</Key><Value>{version}</Value></Tag>");
            format!("<Tagging><TagSet>{}</TagSet></Tagging>", many(10, &tag).concat())
        }
    }
}

/// Configures until the server dies, and returns what the configuration may be.
async fn write(mut client: Client, kind: &str, first: u64, before: Allowed, started: Arc<AtomicBool>) -> Allowed {
    let mut allowed = before;
    for version in first.. {
        let removes = version.is_multiple_of(5);
        let next = (!removes).then_some(version);
        let call = match next {
            None => of(kind, Method::DELETE),
            Some(version) => of(kind, Method::PUT).body(document(kind, version).as_bytes()),
        };
        allowed.push(next);
        let Some(answer) = client.try_call(call).await else { break };
        answer.expect(if removes { 204 } else { 200 });
        allowed = vec![next];
        started.store(true, Ordering::Relaxed);
    }
    allowed
}

async fn check(client: &mut Client, kind: &str, allowed: &mut Allowed) {
    let answer = client.call(of(kind, Method::GET)).await;
    let text = answer.text();
    let start = text
        .find(if kind == "policy" { "{" } else { "<L" })
        .or_else(|| text.find("<Tagging>"))
        .or_else(|| text.find("<W"));
    let found = start.map(|at| &text[at..]).unwrap_or_default();
    let is = |version: Option<u64>| match version {
        Some(version) => answer.status == 200 && found.trim_end() == document(kind, version),
        None => answer.status == 404 || !text.contains("<Tag>") && ["tagging", "object"].contains(&kind),
    };
    let version = allowed.iter().copied().find(|version| is(*version));
    assert!(version.is_some(), "{kind} is none of {allowed:?}: {} {text:.300}", answer.status);
    *allowed = version.into_iter().collect();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_are_whole_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut all: BTreeMap<&str, Allowed> = KINDS.into_iter().map(|kind| (kind, vec![None])).collect();
    for round in 0..=KILLS {
        let victim = Victim::start(directory.path());
        let mut client = Client::to(&victim.authority).await;
        if round == 0 {
            client.call(Call::put("key", b"1")).await.expect(200);
        }
        for (kind, allowed) in &mut all {
            check(&mut client, kind, allowed).await;
        }
        if round == KILLS {
            break;
        }
        let started = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for (kind, before) in std::mem::take(&mut all) {
            let client = Client::to(&victim.authority).await;
            let started = Arc::clone(&started);
            writers.spawn(async move { (kind, write(client, kind, round * 1_000_000 + 1, before, started).await) });
        }
        while !started.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        // The moment is what varies, not what is waited for: any will do.
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..60))).await;
        victim.kill();
        all = writers.join_all().await.into_iter().collect();
    }
    assert!(all.values().any(|allowed| allowed != &[None]), "{all:?}");
}
