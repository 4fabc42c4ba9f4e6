//! Searching and exporting as auditors do it: by the binary, from an instance, and from one that lies.

mod common;

use common::{Dev, assert_fails, run, verdict};
use countersign_log::Signer;
use countersign_verify::merkle::Hash;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

const EMAIL: &str = "you@example.com";

/// An instance with entries of two people, and what they signed.
struct World {
    dev: Dev,
    files: Vec<PathBuf>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dev = Dev::start(&folder.path().join("dev"));
        let mut files = Vec::new();
        for (number, email) in [EMAIL, EMAIL, "other@example.com"].into_iter().enumerate() {
            let file = folder.path().join(format!("file-{number}"));
            fs::write(&file, format!("the content of file {number}")).unwrap();
            let output = dev.sign(&file, email);
            assert_eq!(verdict(&output).0, 0, "{output:?}");
            files.push(file);
        }
        let world = Self { folder, dev, files };
        // Search is behind the log, and says how far.
        while world.search_json(&["--kind", "hashedrekord"]).1["checkpoints"][0]["size"] != 4 {
            std::thread::sleep(Duration::from_millis(50));
        }
        world
    }

    fn log(&self, verb: &str, more: &[&str]) -> Output {
        self.log_with(&self.dev.config(), verb, more)
    }

    fn log_with(&self, config: &Path, verb: &str, more: &[&str]) -> Output {
        let mut args: Vec<&OsStr> = vec!["log".as_ref(), verb.as_ref()];
        args.extend(["--trust-config".as_ref(), config.as_os_str()]);
        args.extend(more.iter().map(OsStr::new));
        run(args)
    }

    /// The entries, and the line behind them.
    fn search_json(&self, more: &[&str]) -> (Vec<Value>, Value) {
        let output = self.log("search", &[more, &["--output", "json"]].concat());
        assert_eq!(verdict(&output).0, 0, "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let end = lines.pop().unwrap();
        (lines, end)
    }

    fn indices(&self, more: &[&str]) -> Vec<u64> {
        let (entries, end) = self.search_json(more);
        assert_eq!(end["complete"], true);
        entries.iter().map(|entry| entry["index"].as_u64().unwrap()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn entries_are_found_by_what_they_say_and_a_search_goes_on_where_it_ended() {
    let world = World::new();
    let url = world.dev.url.clone();
    let first = text(&world.files[0]);
    let (entries, end) = world.search_json(&[first]);
    assert_eq!((entries.len(), &entries[0]["index"], &end["entries"]), (1, &1.into(), &1.into()));
    let signer = &entries[0]["signers"][0];
    let of = |name: &str| signer[name].as_str().unwrap();
    let digest = entries[0]["digests"][0].as_str().unwrap();
    for (wanted, expected) in [
        (&["--identity", EMAIL][..], &[1, 2][..]),
        (&["--identity", "YOU@example.com"], &[1, 2]),
        (&["--identity", "*@example.com"], &[1, 2, 3]),
        (&["--identity", "*@example.org"], &[]),
        (&["--issuer", &url], &[1, 2, 3]),
        (&["--issuer", &url, "--identity", "other*"], &[3]),
        (&["--serial", of("serial")], &[1]),
        (&["--key", of("key")], &[1]),
        (&["--digest", digest], &[1]),
        (&["--digest", digest, "--identity", "other@example.com"], &[]),
        (&["--kind", "hashedrekord 0.0.2"], &[0, 1, 2, 3]),
        (&["--kind", "hashedrekord 0.0.1"], &[0]),
        (&["--kind", "dsse"], &[]),
        (&["--since", "2020-01-01", "--identity", "*"], &[1, 2, 3]),
        (&["--until", "2020-01-01"], &[]),
    ] {
        assert_eq!(world.indices(wanted), expected, "{wanted:?}");
    }
    let (entries, end) = world.search_json(&["--issuer", &url, "--limit", "1"]);
    assert_eq!((entries.len(), &end["complete"]), (1, &false.into()));
    for resume in [&end["resume"], &entries[0]["resume"]] {
        let more = ["--issuer", &url, "--resume", resume.as_str().unwrap()];
        assert_eq!(world.indices(&more), [2, 3]);
    }
    let output = world.log("search", &["--identity", "other@example.com"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    for expected in
        ["other@example.com", "1 entry, each proven", "complete up to 4 entries of \"127.0.0.1\""]
    {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
    for (wanted, status, expected) in [
        (&[][..], 2, "required"),
        (&["--digest", "sha256:00"], 2, "digest: expected"),
        (&["--key", "/nonexistent"], 2, "/nonexistent"),
        (&["--issuer", "a", "--resume", "x"], 2, "resume token"),
        (&["/nonexistent"], 2, "/nonexistent"),
    ] {
        assert_fails(&world.log("search", wanted), status, expected);
    }
}

/// Answers every request with `body`; the trust config that leads there.
fn lying(world: &World, body: String) -> PathBuf {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        }
    });
    let config = fs::read_to_string(world.dev.config()).unwrap();
    let own = world.dev.url.rsplit(':').next().unwrap();
    let path = world.path(&format!("config-{port}"));
    fs::write(&path, config.replace(&format!(":{own}\""), &format!(":{port}\""))).unwrap();
    path
}

#[test]
fn an_answer_is_believed_only_as_far_as_it_is_proven() {
    let world = World::new();
    let (_, answer) = world.dev.request(&format!("GET /api/search?identity={EMAIL}"), "", "");
    let (_, seed) = world.dev.request("GET /api/search?kind=hashedrekord%200.0.1", "", "");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let seed: Value = serde_json::from_str(&seed).unwrap();
    let altered = |pointer: &str, value: Value| {
        let mut answer = answer.clone();
        *answer.pointer_mut(pointer).unwrap() = value;
        answer.to_string()
    };
    let search =
        |body: String, wanted: &[&str]| world.log_with(&lying(&world, body), "search", wanted);
    let honest = search(answer.to_string(), &["--identity", EMAIL]);
    assert_eq!(verdict(&honest).0, 0, "{honest:?}");
    let checkpoint = answer["checkpoints"][0]["checkpoint"].as_str().unwrap();
    for (body, status, expected) in [
        (altered("/entries/0/body", answer["entries"][1]["body"].clone()), 1, "is not in the log"),
        (altered("/entries/0/index", 2.into()), 1, "is not in the log"),
        (altered("/entries/0/hashes", Value::Array(vec![])), 1, "is not in the log"),
        (altered("/entries/0/logId", "AAAA".into()), 1, "without a checkpoint"),
        (altered("/checkpoints/0/logId", "AAAA".into()), 1, "does not list"),
        (
            altered("/checkpoints/0/checkpoint", checkpoint.replace("\n4\n", "\n5\n").into()),
            1,
            "signature",
        ),
        (altered("/entries/0/body", 1.into()), 2, "not as it must be"),
        (altered("/complete", false.into()), 1, "again and again"),
        ("{}".to_owned(), 2, "not as it must be"),
    ] {
        assert_fails(&search(body, &["--identity", EMAIL]), status, expected);
    }
    let other = search(answer.to_string(), &["--identity", "somebody@example.com"]);
    assert_fails(&other, 1, "is not what was searched for");
    let mut early = seed;
    early["entries"][0]["integratedTime"] = 1.into();
    assert_fails(&search(early.to_string(), &["--kind", "hashedrekord"]), 1, "tells a time");
}

#[test]
fn trees_of_one_log_are_consistent_and_a_fork_is_told() {
    let world = World::new();
    let (_, early) = world.dev.request("GET /api/v2/checkpoint", "", "");
    let early_file = world.path("early");
    fs::write(&early_file, &early).unwrap();
    world.dev.sign(&world.files[0], "third@example.com");
    // Another tree under the log's own key.
    let pem = fs::read(world.dev.dir.join("keys/log.pem")).unwrap();
    let (_, key) = der::pem::decode_vec(&pem).unwrap();
    let signer = Signer::ed25519("127.0.0.1", &key).unwrap();
    let write = |name: &str, size| {
        fs::write(world.path(name), signer.sign(size, Hash::of(b"another")).unwrap()).unwrap();
        world.path(name)
    };
    let (forked, larger) = (write("forked", 3), write("larger", 9));
    let foreign = world.path("foreign");
    fs::write(&foreign, early.replace("\n4\n", "\n3\n")).unwrap();
    let (early, forked) = (text(&early_file), text(&forked));
    for (args, status, expected) in [
        (&["--from", "1"][..], 0, "consistent: the tree of 1 entries"),
        (&["--from", "2", "--to", "4"], 0, "is the beginning of that of 4 "),
        (&["--from", early], 0, "is the beginning of that of 5 "),
        (&["--from", "3", "--to", early], 0, "is the beginning of that of 4 "),
        (&["--from", early, "--to", early], 0, "consistent"),
        (&["--from", forked], 1, "INCONSISTENT"),
        (&["--from", "1", "--to", forked], 1, "INCONSISTENT"),
        (&["--from", early, "--to", text(&larger)], 1, "INCONSISTENT"),
        (&["--from", text(&foreign)], 1, "signature"),
        (&["--from", "6"], 1, "no tree of 6"),
        (&["--from", "3", "--to", "2"], 2, "--from <= --to"),
        (&["--from", "/nonexistent"], 2, "/nonexistent"),
    ] {
        let output = world.log("consistency", args);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &verdict(&output).1;
        assert_eq!(verdict(&output).0, status, "{args:?}: {shown}");
        assert!(shown.contains(expected), "{args:?}: {expected:?} in {shown}");
    }
    let output = world.log("consistency", &["--from", early, "--output", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["consistent"], &json["from"]["signed"]), (&true.into(), &true.into()));
}

#[test]
fn exported_evidence_holds_offline_and_no_other_file_does() {
    let mut world = World::new();
    let file = world.path("evidence");
    let output = world.log("export", &["--from", "1", "--to", "3", text(&file)]);
    assert_eq!(verdict(&output).0, 0, "{output:?}");
    world.dev.kill();
    let output = world.log("verify-export", &[text(&file)]);
    assert_eq!(verdict(&output).0, 0, "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("from 1 to before 3") && shown.contains("2 by certificates of a trusted"),
        "{shown}"
    );
    let content = fs::read(&file).unwrap();
    let write = |name: &str, content: &[u8]| {
        fs::write(world.path(name), content).unwrap();
        world.path(name)
    };
    let mut changed = content.clone();
    *changed.last_mut().unwrap() = b' ';
    let altered = write("altered", &changed);
    let last = content.windows(10).position(|window| window == b"{\"sha256\":").unwrap();
    let cut = write("cut", &content[..last]);
    for (file, status, expected) in [
        (&altered, 1, "line 4"),
        (&cut, 1, "ends before entry 3"),
        (&write("empty", b""), 1, "line 1"),
        (&world.path("nothing"), 2, "cannot read"),
    ] {
        assert_fails(&world.log("verify-export", &[text(file)]), status, expected);
    }
    let other = Dev::start(&world.path("other"));
    let output = world.log_with(&other.config(), "verify-export", &[text(&file)]);
    assert_fails(&output, 1, "does not list");
}

#[test]
fn databases_are_made_again_from_tiles_while_no_server_runs() {
    let mut world = World::new();
    let dir = world.dev.dir.clone();
    let reindex = || run(["log", "reindex", "--output", "json", "--dir", text(&dir)]);
    assert_fails(&reindex(), 2, "in use");
    assert!(world.dev.terminate());
    let differed = || {
        let output = reindex();
        assert_eq!(verdict(&output).0, 0, "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["differed"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(differed(), [false; 4]);
    fs::write(dir.join("index.db"), "not an index").unwrap();
    assert_eq!(differed(), [false, false, false, true]);
    world.dev = Dev::start(&dir);
    assert_eq!(world.indices(&["--identity", EMAIL]), [1, 2]);
    assert_fails(
        &run(["log", "reindex", "--dir", text(&world.path("nothing"))]),
        2,
        "there is no instance",
    );
}

#[test]
fn a_new_shard_is_searched_beside_the_old_one() {
    let mut world = World::new();
    let dir = world.dev.dir.clone();
    let rotated = run(["log", "rotate", "--dir", text(&dir)]);
    assert_eq!(verdict(&rotated).0, 0, "{rotated:?}");
    let output = world.dev.sign(&world.files[2], EMAIL);
    assert_eq!(verdict(&output).0, 0, "{output:?}");
    let found = || world.indices(&["--identity", EMAIL]);
    let expected = [1, 2, 1];
    let seen = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        found() == expected
    });
    assert!(seen, "{:?}", found());
    // A restart knows it from the start, and the old index goes on.
    assert!(world.dev.terminate());
    world.dev = Dev::start(&dir);
    assert_eq!(world.indices(&["--identity", EMAIL]), expected);
}
