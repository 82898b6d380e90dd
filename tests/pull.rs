//! `cachalot pull`, `list`, `verify` and `rm` against a hub on loopback: what is under a file's name is whole, whatever
//! the hub, the network or the system do.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use support::hub::{COMMIT, Hub, REPO, TOKEN, noise};
use support::{Ended, run};
use tempfile::TempDir;

const NAME: &str = "hf:tester/Tiny-GGUF:Q2_K_XL";
const FIRST: &str = "UD-Q2_K_XL/Tiny-UD-Q2_K_XL-00001-of-00002.gguf";
const SECOND: &str = "UD-Q2_K_XL/Tiny-UD-Q2_K_XL-00002-of-00002.gguf";

struct Home {
    folder: TempDir,
    hub: Hub,
}

impl Home {
    /// A hub with a quant of two shards, and one of one file.
    fn new() -> Home {
        let files = [
            (FIRST, noise(700_000, 1)),
            (SECOND, noise(300_001, 2)),
            ("Tiny-Q8_0.gguf", noise(1000, 3)),
            ("README.md", b"# Tiny".to_vec()),
        ];
        Home { folder: tempfile::tempdir().unwrap(), hub: Hub::start(&files) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, args: &[&str]) -> Ended {
        run(&mut self.hub.cachalot(self.path(), args))
    }

    fn model(&self) -> PathBuf {
        self.path().join(".local/share/cachalot/models").join(REPO).join("UD-Q2_K_XL")
    }

    fn file(&self, path: &str) -> PathBuf {
        self.model().join(Path::new(path).file_name().unwrap())
    }

    /// That every file under its name is what the hub has; returns how many there are.
    fn whole_files(&self) -> usize {
        let is_whole = |path: &str| {
            let Ok(found) = fs::read(self.file(path)) else { return false };
            assert!(found == self.hub.ways().files[path], "{path} is not whole");
            true
        };
        [FIRST, SECOND].into_iter().filter(|path| is_whole(path)).count()
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.model()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Pulls, and nothing is left but the files and what is known of them.
    fn pulls(&self) -> Ended {
        let ended = self.run(&["pull", NAME]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(self.whole_files(), 2);
        let names = ["Tiny-UD-Q2_K_XL-00001-of-00002.gguf", "Tiny-UD-Q2_K_XL-00002-of-00002.gguf", "cachalot.json"];
        assert_eq!(self.names(), names);
        ended
    }

    /// Fails with a code and a message, and leaves nothing under a final name.
    fn fails(&self, args: &[&str], code: i32, says: &str) {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stderr.contains(says), "{says:?} is not in {}", ended.stderr);
        assert_eq!(ended.stdout, "");
        assert_eq!(self.whole_files(), 0);
    }

    fn data_requests(&self) -> usize {
        self.hub.requests().iter().filter(|request| request.is_data).count()
    }
}

#[test]
fn brings_the_shards_of_a_quant_and_says_where() {
    let home = Home::new();
    let ended = home.pulls();
    assert_eq!(ended.stdout, format!("{}\n", home.file(FIRST).display()));
    // The parts were asked for one by one.
    let requests = home.hub.requests();
    let ranged = requests.iter().filter(|request| request.is_data && request.range.is_some()).count();
    assert!(ranged >= 700_000 / 65536 + 300_001 / 65536, "{ranged}");
    // And the second time nothing is; what a process that was killed could have left is cleared away.
    fs::write(home.file(FIRST).with_extension("gguf.partial.journal"), "x").unwrap();
    home.pulls();
    assert_eq!(home.data_requests(), 0);
}

#[test]
fn of_a_repository_that_has_changed_the_rest_stays() {
    let home = Home::new();
    home.pulls();
    home.hub.requests();
    home.hub.ways().files.insert(SECOND.to_owned(), noise(300_001, 8));
    home.pulls();
    let requests = home.hub.requests();
    assert!(requests.iter().any(|request| request.is_data));
    assert!(requests.iter().all(|request| !request.is_data || request.path.contains("00002-of")), "{requests:?}");
}

#[test]
fn a_dry_run_fetches_nothing() {
    let home = Home::new();
    let ended = home.run(&["pull", NAME, "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("700,000") && ended.stdout.contains("to fetch"), "{}", ended.stdout);
    assert_eq!((home.names().len(), home.data_requests()), (0, 0));
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let home = Home::new();
    home.hub.ways().is_gated = true;
    home.fails(&["pull", NAME], 77, "set HF_TOKEN");
    let pull = |variable: &str, value: &str| run(home.hub.cachalot(home.path(), &["pull", NAME]).env(variable, value));
    let wrong = pull("HF_TOKEN", "hf_wrong");
    assert_eq!(wrong.code, Some(77), "{wrong:?}");
    assert!(wrong.stderr.contains("accept its conditions") && !wrong.stderr.contains("hf_wrong"), "{}", wrong.stderr);
    home.hub.requests();

    let hf_home = home.path().join("hf");
    fs::create_dir_all(&hf_home).unwrap();
    fs::write(hf_home.join("token"), format!("{TOKEN}\n")).unwrap();
    let ways = [("HF_TOKEN", TOKEN), ("HUGGING_FACE_HUB_TOKEN", TOKEN), ("HF_HOME", hf_home.to_str().unwrap())];
    for (variable, value) in ways {
        let ended = pull(variable, value);
        assert_eq!(ended.code, Some(0), "{variable}: {ended:?}");
        assert_eq!(home.whole_files(), 2);
        for request in home.hub.requests() {
            let expected = (!request.is_data).then_some(TOKEN);
            assert_eq!(request.token.as_deref(), expected, "{variable}: {request:?}");
        }
        assert_eq!(home.run(&["rm", "-y", NAME]).code, Some(0));
    }
}

#[test]
fn listings_come_in_pages() {
    let home = Home::new();
    home.hub.ways().page = Some(1);
    home.pulls();
    let pages = home.hub.requests().iter().filter(|request| request.path.contains("/tree/")).count();
    assert_eq!(pages, 4);
}

#[test]
fn broken_connections_are_gone_on_with() {
    let home = Home::new();
    home.hub.ways().cut_after = Some(50_000);
    home.pulls();
    // Nothing is asked for twice: each part begins where the one before it broke off.
    let mut ranges: Vec<_> = home
        .hub
        .requests()
        .into_iter()
        .filter(|r| r.is_data && r.path.contains("00002-of"))
        .filter_map(|r| r.range)
        .collect();
    ranges.sort();
    ranges.retain(|range| *range != (0, 1));
    assert!(ranges.windows(2).all(|pair| pair[0].0 < pair[1].0), "{ranges:?}");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let home = Home::new();
    home.hub.ways().has_no_ranges = true;
    let ended = home.pulls();
    assert!(ended.stderr.contains("from the start only"), "{}", ended.stderr);
}

#[test]
fn a_server_without_ranges_that_breaks_off_gets_another_chance() {
    let home = Home::new();
    home.hub.ways().has_no_ranges = true;
    home.hub.ways().cut_after = Some(400_000);
    // The whole of a file never comes, so a second attempt must be let through.
    let mut child =
        home.hub.cachalot(home.path(), &["pull", NAME]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while home.hub.ways().requests.iter().filter(|request| request.is_data && request.range.is_none()).count() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    home.hub.ways().cut_after = None;
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(home.whole_files(), 2);
}

#[test]
fn rate_limits_and_faults_that_pass_are_waited_for() {
    let home = Home::new();
    home.hub.ways().refuses_all = true;
    home.hub.ways().refusals = vec![(429, "retry-after: 0"), (503, "x: y")];
    home.pulls();
    assert_eq!(home.run(&["rm", "-y", NAME]).code, Some(0));
    home.hub.ways().refuses_all = false;
    home.hub.ways().refusals = vec![(429, "retry-after: 1"), (500, "x: y"), (403, "x: expired"), (502, "x: y")];
    let ended = home.pulls();
    assert!(ended.stderr.contains("HTTP 429") && ended.stderr.contains("again in 1 s"), "{}", ended.stderr);
}

#[test]
fn what_the_hub_has_not_is_said() {
    let home = Home::new();
    home.fails(&["pull", "hf:tester/Nothing:Q8_0"], 66, "no repository 'tester/Nothing'");
    home.fails(&["pull", NAME, "--revision", "v9"], 66, "no revision 'v9'");
    home.fails(&["pull", "hf:tester/Tiny-GGUF:Q3_K_XL"], 66, "it has Q8_0, UD-Q2_K_XL");
    home.fails(&["pull", "hf:tester/Tiny-GGUF"], 2, "'hf:tester/Tiny-GGUF:Q8_0'");
    home.fails(&["pull", "hf:tester"], 2, "hf:OWNER/REPO:QUANT");
    home.fails(&["pull", "no-such-model"], 66, "list --all");
    home.fails(&["pull", "demo"], 2, "nothing to fetch");
    home.hub.ways().files.remove(SECOND);
    home.fails(&["pull", NAME], 65, "lacks 1 of the 2 shards");
}

#[test]
fn a_hub_that_is_not_there_ends_it_soon() {
    let home = Home::new();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pull = |endpoint: &str| run(home.hub.cachalot(home.path(), &["pull", NAME]).env("HF_ENDPOINT", endpoint));
    let ended = pull(&format!("http://{nowhere}"));
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains(&format!("{nowhere} is not reachable")), "{}", ended.stderr);
    assert_eq!(pull("huggingface.co").code, Some(2));
}

#[test]
fn proxies_of_the_environment_are_used() {
    let home = Home::new();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut pull = home.hub.cachalot(home.path(), &["pull", NAME]);
    assert_eq!(run(pull.env("HTTP_PROXY", format!("http://{nowhere}"))).code, Some(69));
    assert_eq!(run(pull.env("NO_PROXY", "127.0.0.1")).code, Some(0));
}

#[test]
fn what_is_not_what_it_should_be_gets_no_name() {
    let home = Home::new();
    home.hub.ways().spoilt = Some(299_999);
    home.fails(&["pull", NAME], 65, "its SHA-256 is");
    home.hub.ways().spoilt = None;
    home.hub.ways().lies_by = 1;
    home.fails(&["pull", NAME], 65, "bytes in place of");
    home.hub.ways().lies_by = 0;
    home.pulls();
}

#[test]
fn room_on_the_disk_is_looked_for_first() {
    let home = Home::new();
    home.hub.ways().lies_by = 1 << 56;
    home.fails(&["pull", NAME], 73, "are free");
    assert_eq!(home.data_requests(), 0);
    // Without anything left but what was wanted.
    assert_eq!(home.names(), ["cachalot.json"]);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_mixed() {
    let home = Home::new();
    home.hub.ways().changes_after = Some(4);
    home.fails(&["pull", NAME], 65, "changed on the hub");
    home.hub.ways().changes_after = None;
    home.pulls();
}

#[test]
fn a_hub_that_says_nothing_of_its_files_is_held_to_its_listing() {
    let home = Home::new();
    home.hub.ways().is_terse = true;
    home.hub.ways().spoilt = Some(0);
    home.fails(&["pull", NAME], 65, "its SHA-256 is");
    home.hub.ways().spoilt = None;
    home.pulls();
}

#[test]
fn names_from_the_hub_stay_in_the_folder() {
    for path in [
        "../../../evil-Q8_0.gguf",
        "/tmp/evil-Q8_0.gguf",
        "a/../../evil-Q8_0.gguf",
        "a\\..\\evil-Q8_0.gguf",
        "x/.evil-Q8_0.gguf",
    ] {
        let home = Home { folder: tempfile::tempdir().unwrap(), hub: Hub::start(&[(path, noise(1000, 1))]) };
        let ended = home.run(&["pull", "hf:tester/Tiny-GGUF:Q8_0"]);
        assert_eq!(ended.code, Some(65), "{path}: {ended:?}");
        assert!(ended.stderr.contains("no name that a file may get"), "{path}: {}", ended.stderr);
        assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "{path}");
    }
}

#[test]
fn killed_at_any_time_it_leaves_nothing_half_done() {
    let home = Home::new();
    home.hub.ways().pace = Some(16_384);
    let mut random = noise(400, 7).into_iter();
    let (mut n_whole, mut n_partial) = (0, 0);
    for _ in 0..200 {
        home.hub.requests();
        let mut pull = home.hub.cachalot(home.path(), &["pull", NAME, "-q"]);
        let mut child = pull.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // So many requests, of the twenty that it takes, and some time. Requests, since machines are not equally fast.
        let (n_requests, time) = (random.next().unwrap() % 22, random.next().unwrap());
        while home.hub.ways().requests.len() < usize::from(n_requests) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(u64::from(time) * 50));
        child.kill().unwrap();
        child.wait().unwrap();
        match home.whole_files() {
            2 => {
                n_whole += 1;
                fs::remove_dir_all(home.model()).unwrap();
            }
            _ => n_partial += usize::from(home.names().iter().any(|name| name.ends_with(".partial"))),
        }
    }
    assert!(n_partial > 0, "none left a part of a file, {n_whole} were whole");
    home.hub.ways().pace = None;
    home.pulls();
}

#[test]
fn a_signal_ends_it_with_a_word_and_loses_nothing() {
    let home = Home::new();
    home.hub.ways().pace = Some(512);
    let mut pull = home.hub.cachalot(home.path(), &["pull", NAME]);
    let child = pull.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !home.names().iter().any(|name| name.ends_with(".partial")) {
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(130), &b""[..]), "{stderr}");
    assert!(stderr.ends_with("what has come is kept; the same command goes on with it\n"), "{stderr}");
    home.hub.ways().pace = None;
    home.pulls();
}

#[test]
fn bytes_that_were_lost_behind_the_journal_come_again() {
    let home = Home::new();
    home.hub.ways().pace = Some(512);
    let mut pull = home.hub.cachalot(home.path(), &["pull", NAME, "-j", "2"]);
    let mut child = pull.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let partial = home.file(FIRST).with_extension("gguf.partial");
    let journal = home.file(FIRST).with_extension("gguf.partial.journal");
    while fs::read_to_string(&journal).unwrap_or_default().matches("whole").count() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What a power failure could do: the journal says more than the disk has.
    let mut bytes = fs::read(&partial).unwrap();
    bytes[..100_000].fill(0);
    fs::write(&partial, bytes).unwrap();
    home.hub.ways().pace = None;
    let ended = home.pulls();
    assert!(ended.stderr.contains("have to come again"), "{}", ended.stderr);
}

#[test]
fn two_at_once_do_not_meet() {
    let home = Home::new();
    // So slow that the second one comes in time.
    home.hub.ways().pace = Some(32);
    let mut first =
        home.hub.cachalot(home.path(), &["pull", NAME]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while home.names().is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
    home.fails(&["pull", NAME], 1, "another cachalot");
    home.hub.ways().pace = None;
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(home.whole_files(), 2);
}

#[test]
fn what_hugging_faces_own_tools_have_is_not_fetched_again() {
    for (variable, value, hub) in
        [("LANG", "C", ".cache/huggingface/hub"), ("HF_HOME", "hf", "hf/hub"), ("HF_HUB_CACHE", "cache", "cache")]
    {
        let home = Home::new();
        let blobs = home.path().join(hub).join("models--tester--Tiny-GGUF/blobs");
        fs::create_dir_all(&blobs).unwrap();
        let bytes = home.hub.ways().files[FIRST].clone();
        fs::write(blobs.join(support::hub::sha256(&bytes)), &bytes).unwrap();
        // One of the right name and size that is something else.
        let other = home.hub.ways().files[SECOND].clone();
        fs::write(blobs.join(support::hub::sha256(&other)), noise(other.len(), 9)).unwrap();
        let value = if variable == "LANG" { PathBuf::from(value) } else { home.path().join(value) };
        let ended = run(home.hub.cachalot(home.path(), &["pull", NAME]).env(variable, value));
        assert_eq!((ended.code, home.whole_files()), (Some(0), 2), "{variable}: {ended:?}");
        let requests = home.hub.requests();
        let is_of_second = |request: &support::hub::Request| !request.is_data || request.path.contains("00002-of");
        assert!(requests.iter().all(is_of_second), "{variable}: {requests:?}");
    }
}

#[test]
fn redirects_without_an_end_are_an_end() {
    let home = Home::new();
    home.hub.ways().redirects_to_itself = true;
    home.fails(&["pull", NAME], 65, "redirects without an end");
}

#[test]
fn list_says_what_is_here() {
    let home = Home::new();
    let ended = home.run(&["list"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("demo (default)"), "{}", ended.stdout);
    assert!(ended.stderr.contains("no models"), "{}", ended.stderr);
    home.pulls();
    fs::remove_file(home.file(SECOND)).unwrap();
    assert_eq!(home.run(&["pull", "hf:tester/Tiny-GGUF:Q8_0"]).code, Some(0));
    let listed = home.run(&["list"]).stdout;
    let lines: Vec<&str> = listed.lines().skip_while(|line| !line.starts_with("model ")).collect();
    assert_eq!(lines.len(), 4, "{listed}");
    assert!(lines[2].contains("hf:tester/Tiny-GGUF:Q8_0") && lines[2].contains("complete"), "{listed}");
    assert!(lines[3].contains("hf:tester/Tiny-GGUF:UD-Q2_K_XL") && lines[3].contains("partial"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&home.run(&["list", "--json"]).stdout).unwrap();
    let json = &json["models"];
    assert_eq!((&json[0]["name"], &json[0]["default"]), (&"demo".into(), &true.into()));
    assert!(json[0]["bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{json}");
    assert_eq!((&json[1]["complete"], &json[1]["default"]), (&true.into(), &false.into()));
    assert_eq!(json[2]["complete"], false);
    assert_eq!(json[2]["bytes"], 1_000_001);
    assert_eq!(json[2]["revision"], COMMIT);
    assert!(home.run(&["list", "--all"]).stdout.contains("deepseek-v3-0324"));
    let all: serde_json::Value = serde_json::from_str(&home.run(&["list", "--all", "--json"]).stdout).unwrap();
    assert!(all["models"].as_array().unwrap().iter().any(|model| model["name"] == "deepseek-r1-0528"));
}

#[test]
fn rm_removes_what_was_named_and_asks_before() {
    let home = Home::new();
    home.pulls();
    let ended = home.run(&["rm", NAME]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(home.whole_files(), 2);
    assert_eq!(home.run(&["rm", "-y", NAME, "hf:tester/Other:Q8_0"]).code, Some(66));
    assert_eq!(home.whole_files(), 2);
    assert_eq!(home.run(&["rm", "-y", NAME]).code, Some(0));
    assert!(!home.model().parent().unwrap().exists());
    assert_eq!(home.run(&["rm", "-y", NAME]).code, Some(66));
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

/// As [`Home`], with files that are a model.
fn demo_home() -> Home {
    let demo = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.gguf")).unwrap();
    let home = Home { folder: tempfile::tempdir().unwrap(), hub: Hub::start(&[("Demo-Q8_0.gguf", demo)]) };
    let config = home.path().join(".config/cachalot");
    fs::create_dir_all(&config).unwrap();
    let text = format!("[[model]]\nname = \"mine\"\naliases = [\"mine:9m\"]\n[[model.files]]\nrepo = \"{REPO}\"\n");
    fs::write(config.join("models.toml"), text).unwrap();
    home
}

#[test]
fn verify_finds_damage_and_repairs_the_damaged_part_alone() {
    let home = demo_home();
    assert_eq!(home.run(&["pull", "mine:Q8_0", "-q"]).code, Some(0));
    let path = home.path().join(".local/share/cachalot/models").join(REPO).join("Q8_0/Demo-Q8_0.gguf");
    let ended = home.run(&["verify", "mine:Q8_0"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("sound") && ended.stderr.contains("as it was published"), "{}", ended.stderr);

    let original = fs::read(&path).unwrap();
    flip(&path, 5_000_000);
    let ended = home.run(&["verify", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.stderr.contains("damaged in 128.00 KiB, at bytes 4980736..5111808"), "{}", ended.stderr);
    home.hub.requests();
    let ended = home.run(&["verify", "mine", "--repair"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(fs::read(&path).unwrap() == original);
    let ranges: Vec<_> = home.hub.requests().iter().filter(|r| r.is_data).filter_map(|r| r.range).collect();
    assert_eq!(ranges, [(0, 1), (4_980_736, 5_111_808)]);

    // One that was cut, and one that is not there.
    fs::write(&path, &original[..1_000_000]).unwrap();
    assert_eq!(home.run(&["verify", "mine"]).code, Some(65));
    assert_eq!(home.run(&["verify", "mine", "--repair"]).code, Some(0));
    fs::remove_file(&path).unwrap();
    assert_eq!(home.run(&["verify", "mine"]).code, Some(65));
    assert_eq!(home.run(&["verify", "mine", "--repair"]).code, Some(0));
    assert!(fs::read(&path).unwrap() == original);
}

#[test]
fn files_that_came_another_way_are_held_against_the_hub() {
    let home = demo_home();
    let folder = home.path().join("from-a-usb-stick");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("Demo-Q8_0.gguf");
    fs::write(&path, &home.hub.ways().files["Demo-Q8_0.gguf"]).unwrap();
    let verify = |more: &[&str]| home.run(&[&["verify", path.to_str().unwrap()], more].concat());
    let ended = verify(&[]);
    assert_eq!(ended.code, Some(66), "{ended:?}");
    assert!(ended.stderr.contains("--against"), "{}", ended.stderr);
    assert_eq!(verify(&["--against", "mine:Q8_0"]).code, Some(0));
    flip(&path, 7_000_000);
    assert_eq!(verify(&["--against", "hf:tester/Tiny-GGUF:Q8_0"]).code, Some(65));
    assert_eq!(verify(&["--against", "mine", "--repair"]).code, Some(0));
    // From now on its hashes are kept.
    assert_eq!(verify(&[]).code, Some(0));
    flip(&path, 100);
    assert_eq!(verify(&[]).code, Some(65));
}

#[test]
fn a_pulled_model_is_run_by_its_name() {
    let home = demo_home();
    let ask = |model: &str| home.run(&["run", "-m", model, "-p", "What is 17 + 25?"]);
    let ended = ask("mine:Q8_0");
    assert_eq!(ended.code, Some(66), "{ended:?}");
    assert!(ended.stderr.contains("cachalot pull mine:Q8_0"), "{}", ended.stderr);
    assert_eq!(home.run(&["pull", "mine"]).code, Some(0));
    for name in ["mine", "mine:Q8_0", "MINE:q8_0", "mine:9m", "mine:9m:Q8_0", REPO, "hf:tester/Tiny-GGUF:Q8_0"] {
        let ended = ask(name);
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        assert!(ended.stdout.contains("42"), "{name}: {}", ended.stdout);
    }
    assert_eq!(home.run(&["use", "mine:Q8_0"]).code, Some(0));
    let listed = home.run(&["list"]).stdout;
    assert!(listed.contains("mine:Q8_0 (default)") && !listed.contains("demo (default)"), "{listed}");
    assert!(home.run(&["run", "What is 17 + 25?"]).stdout.contains("42"));
    let manifest = home.path().join(".local/share/cachalot/models").join(REPO).join("Q8_0/cachalot.json");
    fs::remove_file(manifest.with_file_name("Demo-Q8_0.gguf")).unwrap();
    let ended = ask("mine");
    assert_eq!(ended.code, Some(66), "{ended:?}");
    assert!(ended.stderr.contains("is not complete"), "{}", ended.stderr);
    fs::write(manifest, "{").unwrap();
    assert_eq!(ask("mine").code, Some(65));
}

#[test]
fn a_users_catalogue_that_is_wrong_is_said() {
    let home = demo_home();
    let path = home.path().join(".config/cachalot/models.toml");
    fs::write(&path, "[[model]]\nnam = \"x\"\n").unwrap();
    let ended = home.run(&["run", "-m", "mine", "-p", "x"]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.stderr.contains("models.toml") && ended.stderr.contains("nam"), "{}", ended.stderr);
}

#[test]
fn models_are_kept_where_they_are_told_to() {
    let home = demo_home();
    let folder = home.path().join("big-disk");
    let dir = folder.to_str().unwrap();
    let ended = home.run(&["pull", "mine", "--dir", dir]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("CACHALOT_MODELS"), "{}", ended.stderr);
    assert!(folder.join(REPO).join("Q8_0/Demo-Q8_0.gguf").exists());
    assert_eq!(home.run(&["verify", "mine"]).code, Some(66));
    let ended = run(home.hub.cachalot(home.path(), &["verify", "mine"]).env("CACHALOT_MODELS", &folder));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
