//! A file with one line for each attempt that was slow or failed.
//!
//! Many processes append to one file. It is opened for each line, since such lines are rare: nothing is inherited by a
//! fork, and a file that another process renamed is not written to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use oss_protocol::time::format_expiration;

use crate::attempt::Attempt;

/// A file of this size is renamed, and another one begun: 50,000 lines, which an editor still opens.
const LARGEST: u64 = 16 << 20;

/// Files that are kept beside the current one, with the endings `.1` (the youngest) to this number.
const KEPT: u32 = 4;

/// Writes attempts that were slow or failed.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    slow: Duration,
    largest: u64,
    has_complained: AtomicBool,
}

impl Audit {
    /// Makes the file if it does not exist.
    ///
    /// An attempt is slow if its answer took at least `slow`, from the request to the last byte.
    pub fn open(path: &Path, slow: Duration) -> io::Result<Self> {
        let audit = Self { path: path.to_owned(), slow, largest: LARGEST, has_complained: AtomicBool::new(false) };
        audit.file()?;
        Ok(audit)
    }

    /// Writes an attempt, if it was slow or failed. That a file cannot be written must not end a job.
    pub(crate) fn see(&self, attempt: &Attempt) {
        if attempt.failure.is_none() && attempt.total < self.slow {
            return;
        }
        let line = format!("{}|AUDIT|{}|{attempt}\n", moment(attempt.began), process::id());
        if let Err(error) = self.append(line.as_bytes())
            && !self.has_complained.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(path = %self.path.display(), %error, "the audit file cannot be written; lines are missing");
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut file = self.file()?;
        if file.metadata()?.len() + line.len() as u64 > self.largest {
            file = self.rotated(&file)?;
        }
        // One call, so that lines of several processes do not mix.
        file.write_all(line)
    }

    fn file(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(&self.path)
    }

    /// Renames the full file, unless another process has done so meanwhile; returns the file to write to.
    fn rotated(&self, full: &File) -> io::Result<File> {
        full.lock()?;
        let now = self.file()?;
        if now.metadata()?.ino() != full.metadata()?.ino() {
            return Ok(now);
        }
        for number in (1..KEPT).rev() {
            rename_if_present(&self.numbered(number), &self.numbered(number + 1))?;
        }
        rename_if_present(&self.path, &self.numbered(1))?;
        self.file()
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn rename_if_present(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `2023-12-16T16:20:57.123456Z`.
fn moment(time: SystemTime) -> String {
    let seconds = format_expiration(time);
    let micros = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_micros();
    format!("{}.{micros:06}Z", seconds.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    fn attempt(number: usize, total: Duration, failure: Option<&str>) -> Attempt {
        Attempt {
            operation: "get",
            server: "127.0.0.1".into(),
            port: 80,
            bucket: Some("bucket".to_owned()),
            key: Some("key".to_owned()),
            range: None,
            began: SystemTime::UNIX_EPOCH + Duration::from_micros(1_000_002),
            first_byte: total,
            total,
            status: None,
            request_id: None,
            number,
            sent: 0,
            received: 0,
            failure: failure.map(str::to_owned),
            cause: failure.map(|_| "other"),
        }
    }

    #[test]
    fn only_slow_and_failed_attempts_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(&path, Duration::from_millis(100)).unwrap();
        assert!(path.exists());
        audit.see(&attempt(1, Duration::from_micros(99_999), None));
        audit.see(&attempt(2, Duration::from_millis(100), None));
        audit.see(&attempt(3, Duration::ZERO, Some("no")));
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        let start = format!("1970-01-01T00:00:01.000002Z|AUDIT|{}|oss:get [url=oss://bucket/key]", process::id());
        assert!(lines[0].starts_with(&start) && lines[0].contains("[attempt=2]"), "{text}");
        assert!(lines[1].ends_with("[error=no]"), "{text}");
    }

    #[test]
    fn writers_that_rotate_together_lose_no_line_that_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        // As several processes have it: each has its own.
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let mut audit = Audit::open(&path, Duration::ZERO).unwrap();
                audit.largest = 16_000;
                let audit = Arc::new(audit);
                thread::spawn(move || {
                    for number in 0..100 {
                        audit.see(&attempt(1000 * writer + number, Duration::ZERO, None));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]);
        let text: String = names.iter().map(|name| fs::read_to_string(folder.path().join(name)).unwrap()).collect();
        assert_eq!(text.lines().filter(|line| line.ends_with("[latency=0]")).count(), 400);
    }

    #[test]
    fn a_file_that_cannot_be_written_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(&path, Duration::ZERO).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        audit.see(&attempt(1, Duration::ZERO, None));
        assert!(Audit::open(&path, Duration::ZERO).is_err());
    }
}
