//! From a name to an answer, against a hub on loopback: `plan` on headers alone, `pull`, `chat`.

mod support;

use cachalot::gguf::Split;
use serde_json::Value as Json;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use support::hub::{COMMIT, Hub, REPO, Request};
use support::models::{V3, write_holes};
use support::terminal::{Setup, Terminal};
use support::{Ended, run};
use tempfile::TempDir;

const MACHINE: &str = "[ram]\nsize = \"768 GB\"\nbandwidth_gb_s = 400\n[cpu]\ncores = 64\n";

/// A user's folder, with a machine to plan for and a model of their own in the catalogue.
struct Home {
    folder: TempDir,
    hub: Hub,
}

impl Home {
    fn new(hub: Hub) -> Home {
        let home = Home { folder: tempfile::tempdir().unwrap(), hub };
        fs::create_dir_all(home.config().join("cachalot")).unwrap();
        let model = format!("[[model]]\nname = \"mine\"\n[[model.files]]\nrepo = \"{REPO}\"\n");
        fs::write(home.config().join("cachalot/models.toml"), model).unwrap();
        fs::write(home.machine(), MACHINE).unwrap();
        home
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    fn machine(&self) -> PathBuf {
        self.folder.path().join("machine.toml")
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn run(&self, args: &[&str]) -> Ended {
        let mut command = self.hub.cachalot(self.folder.path(), args);
        run(command.env("XDG_CONFIG_HOME", self.config()).env("CACHALOT_MODELS", self.models()))
    }

    fn plan(&self, model: &str, args: &[&str]) -> Ended {
        let machine = self.machine();
        self.run(&[&["plan", model, "--machine", machine.to_str().unwrap()], args].concat())
    }

    fn plan_json(&self, model: &str) -> Json {
        let ended = self.plan(model, &["--json"]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

fn demo() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.gguf")).unwrap()
}

/// Bytes of data that were asked for.
fn asked(requests: &[Request]) -> u64 {
    let len = |request: &Request| request.range.map(|(from, to)| to - from).expect("a part was asked for");
    requests.iter().filter(|request| request.is_data).map(len).sum::<usize>() as u64
}

/// A model of V3's size in several files, of which the hub keeps what `plan` may ask for, and no more.
#[test]
fn a_model_on_the_hub_is_planned_by_its_headers() {
    let folder = tempfile::tempdir().unwrap();
    let files = write_holes(&V3, &folder.path().join("V3-Q4_0.gguf"), Split::MaxBytes(100 << 30));
    assert!(files.len() > 2);
    let mut sizes = Vec::new();
    let beginnings: Vec<(String, Vec<u8>)> = files
        .iter()
        .enumerate()
        .map(|(at, path)| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            sizes.push((name.clone(), fs::metadata(path).unwrap().len()));
            let mut bytes = Vec::new();
            let kept = if at == 0 { 16 << 20 } else { 256 << 10 };
            fs::File::open(path).unwrap().take(kept).read_to_end(&mut bytes).unwrap();
            (name, bytes)
        })
        .collect();
    let listed: Vec<(&str, Vec<u8>)> = beginnings.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let home = Home::new(Hub::start(&listed));
    home.hub.ways().sizes.extend(sizes);

    for name in ["hf:tester/Tiny-GGUF:Q4_0", "mine", "mine:Q4_0"] {
        let plan = home.plan_json(name);
        let requests = home.hub.requests();
        let of_hub = &plan["origin"]["hub"];
        assert_eq!((of_hub["repo"].as_str(), of_hub["revision"].as_str()), (Some(REPO), Some(COMMIT)));
        assert_eq!(of_hub["n_files"].as_u64(), Some(files.len() as u64));
        // Nothing came twice.
        assert_eq!(of_hub["n_read"].as_u64(), Some(asked(&requests)), "{requests:?}");
        assert!(asked(&requests) <= (16 << 20) + files.len() as u64 * (256 << 10), "{}", asked(&requests));
        // And it is the same plan as that of the files.
        let local = home.plan_json(files[0].to_str().unwrap());
        for key in ["classes", "devices", "generation", "largest_context"] {
            assert_eq!(plan[key], local[key], "{key}");
        }
        assert!(home.hub.requests().is_empty(), "a file was planned with the hub");
    }
    let text = home.plan("mine", &[]).stdout;
    assert!(text.contains(&format!("the headers of {} files of {REPO}", files.len())), "{text}");
}

/// Of quants beside the one that is planned only their sizes are known, and their names.
#[test]
fn what_else_a_repository_has_is_planned_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_holes(&V3, &folder.path().join("V3-Q4_0.gguf"), Split::None).remove(0);
    let mut beginning = Vec::new();
    fs::File::open(&path).unwrap().take(16 << 20).read_to_end(&mut beginning).unwrap();
    let files = [("V3-Q4_0.gguf", beginning), ("V3-IQ1_S.gguf", vec![0]), ("V3-F16.gguf", vec![0])];
    let home = Home::new(Hub::start(&files));
    let sizes = [("V3-Q4_0.gguf", fs::metadata(&path).unwrap().len()), ("V3-IQ1_S.gguf", 134 << 30)];
    home.hub.ways().sizes.extend(sizes.map(|(name, n)| (name.to_owned(), n)));
    home.hub.ways().sizes.insert("V3-F16.gguf".to_owned(), 1250 << 30);

    let plan = home.plan_json("hf:tester/Tiny-GGUF:Q4_0");
    let rows = plan["quants"].as_array().unwrap();
    let of = |key: &str| rows.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("name"), ["IQ1_S", "Q4_0", "F16"]);
    assert_eq!(
        (of("fits"), of("best")),
        (vec![true.into(), true.into(), false.into()], vec![false.into(), true.into(), false.into()])
    );
    assert_eq!(rows[1]["generation"], plan["generation"][0]["tokens_per_second"], "its own header counts");
    for (row, size) in [(&rows[0], 134u64 << 30), (&rows[2], 1250 << 30)] {
        assert!(row["bytes"].as_u64().unwrap().abs_diff(size) < 1_000_000, "{row}");
    }
    let speed = |row: &Json| row["generation"][0].as_f64().unwrap();
    assert!(speed(&rows[2]) < speed(&rows[1]), "the disk is slower");
    let requests = home.hub.requests();
    assert!(requests.iter().all(|request| !request.is_data || request.path.contains("Q4_0")), "{requests:?}");
}

#[test]
fn headers_come_from_servers_that_break_off_or_have_no_ranges() {
    let home = Home::new(Hub::start(&[("Demo-Q6_K.gguf", demo())]));
    let whole = home.plan_json("mine");
    for (cut_after, has_no_ranges) in [(Some(50_000), false), (None, true)] {
        let mut ways = home.hub.ways();
        (ways.cut_after, ways.has_no_ranges) = (cut_after, has_no_ranges);
        drop(ways);
        let plan = home.plan_json("mine");
        assert_eq!((&plan["classes"], &plan["devices"]), (&whole["classes"], &whole["devices"]));
    }
    home.hub.ways().refusals = vec![(429, "retry-after: 0")];
    assert_eq!(home.plan_json("mine")["classes"], whole["classes"]);
}

#[test]
fn what_is_no_model_or_not_there_is_said() {
    let home = Home::new(Hub::start(&[("Junk-Q6_K.gguf", vec![7; 1000]), ("Demo-Q8_0.gguf", demo())]));
    for (model, code, says) in [
        ("mine:Q6_K", 65, "Junk-Q6_K.gguf"),
        ("mine:Q2_K", 66, "has no quant 'Q2_K'; it has Q6_K, Q8_0"),
        ("mine", 2, "several quants: name one behind a colon, as in 'mine:Q6_K'. It has Q6_K (0.0 MB), Q8_0 (7.8 MB)"),
        ("hf:tester/Other:Q6_K", 66, "no repository"),
    ] {
        let ended = home.plan(model, &[]);
        assert_eq!(ended.code, Some(code), "{model}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{model}: {}", ended.stderr);
    }
    let ended = home.plan("mine:Q8_0", &["--offline"]);
    assert_eq!(ended.code, Some(66));
    assert!(ended.stderr.contains("--offline"), "{}", ended.stderr);
}

/// The catalogue has V3's sizes; it is used where the hub has no answer, and that is said.
#[test]
fn without_the_hub_the_catalogue_says_what_it_knows() {
    let home = Home::new(Hub::start(&[]));
    let because = |ended: Ended| {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let plan: Json = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(plan["origin"]["derived"]["published"].as_u64(), Some(250_000_000_000));
        plan["origin"]["derived"]["because"].as_str().unwrap().to_owned()
    };
    let name = "deepseek-v3-0324:Q2_K_XL";
    assert!(because(home.plan(name, &["--json"])).contains("no repository"));
    let requests = home.hub.requests().len();
    assert!(requests > 0);
    assert_eq!(because(home.plan(name, &["--json", "--offline"])), "the hub was not asked");
    assert_eq!(home.hub.requests().len(), 0);
    let mut unreachable = home.hub.cachalot(home.folder.path(), &["plan", name, "--json", "--machine"]);
    let unreachable = unreachable.arg(home.machine()).env("HF_ENDPOINT", "http://127.0.0.1:9");
    assert!(because(run(unreachable)).contains("is not reachable"));
    let mut offline = home.hub.cachalot(home.folder.path(), &["plan", name, "--json", "--machine"]);
    assert_eq!(because(run(offline.arg(home.machine()).env("HF_HUB_OFFLINE", "1"))), "the hub was not asked");
}

#[test]
fn pull_plan_chat() {
    let home = Home::new(Hub::start(&[("Demo-Q6_K.gguf", demo())]));
    let planned = home.plan("mine:Q6_K", &[]);
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    assert!(planned.stdout.contains("the headers of 1 file of"), "{}", planned.stdout);
    assert!(asked(&home.hub.requests()) < demo().len() as u64 / 4);

    let pulled = home.run(&["pull", "mine:Q6_K"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.stderr);
    home.hub.requests();

    let planned = home.plan("mine:Q6_K", &[]);
    assert!(planned.stdout.contains(pulled.stdout.trim()), "{}", planned.stdout);

    let (config, models) = (home.config(), home.models());
    let env = [
        ("HOME", home.folder.path().to_str().unwrap()),
        ("XDG_CONFIG_HOME", config.to_str().unwrap()),
        ("CACHALOT_MODELS", models.to_str().unwrap()),
        ("HF_ENDPOINT", &home.hub.url),
    ];
    let setup = Setup { args: &["chat", "mine:Q6_K", "-t", "1"], state: home.folder.path(), env: &env, size: (30, 90) };
    let mut chat = Terminal::start(&setup);
    chat.until_prompt();
    chat.line("What is 17 + 25?");
    chat.until("42");
    chat.until_prompt();
    chat.send(b"\x04");
    assert_eq!(chat.end().0.exit_code(), 0);
    assert!(home.hub.requests().is_empty(), "what is here was asked for again");
}
