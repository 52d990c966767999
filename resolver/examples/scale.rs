//! Times plan, advance, changed, compile and insert with many packages selected. Prints the least
//! and the median of several runs; asserts nothing, since a time is not a promise.
//!
//! `cargo run --release -p dynfs-resolver --example scale -- 10000 100000`

#![expect(clippy::print_stdout, reason = "it is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "the example measures, the crate does not")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use resolver::{Arch, Catalog, Providers, Release, Request, Selections, Spec, View, plan};

const RUNS: usize = 41;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let counts = match arguments.is_empty() {
        true => vec!["10000".to_string()],
        false => arguments,
    };
    for count in counts {
        measure(count.parse()?)?;
    }
    Ok(())
}

/// Two releases of every package; each package has a command and a library, each tenth needs the
/// one before it.
fn releases(count: usize) -> Result<Vec<Arc<Release>>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    for number in 0..count {
        for (version, odd) in [("1.0-1", 0), ("1.1-2", 1)] {
            let object = format!("{:064x}", 2 * number + odd);
            let needs = match number % 10 {
                9 => vec![format!("package-{:06}>=1.0", number - 1)],
                _ => Vec::new(),
            };
            let soname = format!("lib{number}.so.1");
            let json = serde_json::json!({
                "name": format!("package-{number:06}"), "version": version, "arch": "amd64",
                "category": if number % 4 == 0 { "app" } else { "lib" },
                "object": object, "needs": needs,
                "origin": {"kind": "directory", "name": "scale"},
                "provides": {
                    "commands": [format!("command-{number:06}")],
                    "sonames": { soname.clone(): soname },
                },
            });
            all.push(Arc::new(serde_json::from_value(json)?));
        }
    }
    Ok(all)
}

fn measure(count: usize) -> Result<(), Box<dyn std::error::Error>> {
    println!("{count} packages selected, {} releases, {RUNS} runs:", 2 * count);
    let all = releases(count)?;
    let host = Arch::new("amd64")?;
    let mut catalog = Catalog::new(host.clone());
    let mut insert = Vec::new();
    for _ in 0..5 {
        let mut fresh = Catalog::new(host.clone());
        let start = Instant::now();
        for release in &all {
            fresh.insert(release.clone())?;
        }
        insert.push(start.elapsed());
        catalog = fresh;
    }
    let specs = (0..count).map(|n| format!("package-{n:06}@1.0").parse());
    let specs = specs.collect::<Result<Vec<Spec>, _>>()?;
    let apply = Request::Apply { specs, providers: Providers::default() };
    let start = Instant::now();
    let current = plan(&catalog, &Selections::default(), &apply)?.next;
    line("apply of all", &mut [start.elapsed()]);
    let view = View::compile(&current, &catalog);
    let middle: Spec = format!("package-{:06}@1.1", count / 2).parse()?;
    let select = Request::Select { specs: vec![middle], providers: Vec::new() };
    let [mut planned, mut advanced, mut changed, mut sum, mut compiled] = [const { Vec::new() }; 5];
    for _ in 0..RUNS {
        let start = Instant::now();
        let planning = plan(&catalog, &current, &select)?;
        let a = start.elapsed();
        let next = view.advance(&planning, &catalog);
        let b = start.elapsed();
        let differences = view.changed(&next);
        let c = start.elapsed();
        assert_eq!((planning.changes.len(), differences.entries.len()), (1, 1));
        planned.push(a);
        advanced.push(b - a);
        changed.push(c - b);
        sum.push(c);
        let start = Instant::now();
        let whole = View::compile(&planning.next, &catalog);
        compiled.push(start.elapsed());
        assert_eq!(whole, next);
    }
    line("plan of one select", &mut planned);
    line("View::advance", &mut advanced);
    line("View::changed", &mut changed);
    line("these three together", &mut sum);
    line("View::compile", &mut compiled);
    line("Catalog::insert of all releases", &mut insert);
    Ok(())
}

fn line(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (least, median) = (times[0], times[times.len() / 2]);
    println!("  {what:32} least {least:>10.1?}  median {median:>10.1?}");
}
