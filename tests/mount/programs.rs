//! Real programs, built once against the virtual path, above a library that is swapped.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rig::{Content, Rig, on_path};

const PROGRAM: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
int greet_version(void);
int main(void) {
    char line[16];
    printf("%d\n", greet_version());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        void *plugin = dlopen(PLUGIN, RTLD_NOW);
        int (*number)(void) = plugin ? (int (*)(void))dlsym(plugin, "plugin_version") : 0;
        printf("%d %d\n", greet_version(), number ? number() : -1);
        fflush(stdout);
    }
    return NUMBER - NUMBER;
}
"#;

/// A mount with two releases of a small library and a plugin; `None` without a compiler.
fn with_library(test: &str) -> Option<Rig> {
    if !on_path("cc") {
        println!("SKIPPED {test}: there is no C compiler");
        return None;
    }
    let rig = Rig::mounted(test)?;
    for version in 1..=2 {
        let library = shared(&rig, "greet", "greet_version", version);
        let plugin = shared(&rig, "plugin", "plugin_version", version);
        rig.add(
            "greet",
            &format!("{version}.0"),
            &[
                ("lib/libgreet.so.1.0", Content::File(&library)),
                ("lib/libgreet.so.1", Content::Link("libgreet.so.1.0")),
                ("lib/libgreet.so", Content::Link("libgreet.so.1")),
                ("lib/plugins/plugin.so", Content::File(&plugin)),
            ],
        );
    }
    rig.ok(["select", "greet@1.0"]);
    Some(rig)
}

fn shared(rig: &Rig, name: &str, function: &str, version: u32) -> Vec<u8> {
    let source = rig.scratch(&format!("{name}-{version}.c"));
    let output = rig.scratch(&format!("{name}-{version}.so"));
    fs::write(&source, format!("int {function}(void) {{ return {version}; }}\n")).expect("ours");
    let soname = format!("-Wl,-soname,lib{name}.so.1");
    compile(&["-shared".into(), "-fPIC".into(), soname, "-o".into(), text(&output), text(&source)]);
    fs::read(&output).expect("compiled")
}

/// Builds programs against the virtual path, `-j2`.
fn build(rig: &Rig, count: usize) -> Vec<PathBuf> {
    let source = rig.scratch("program.c");
    fs::write(&source, PROGRAM).expect("ours");
    let library = text(&rig.at("lib/greet/lib"));
    let plugin = format!("-DPLUGIN=\"{library}/plugins/plugin.so\"");
    let programs: Vec<PathBuf> =
        (0..count).map(|number| rig.scratch(&format!("program-{number}"))).collect();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (programs, source, library, plugin) = (&programs, &source, &library, &plugin);
            scope.spawn(move || {
                for (number, program) in programs.iter().enumerate().skip(half).step_by(2) {
                    compile(&[
                        text(source),
                        format!("-DNUMBER={number}"),
                        plugin.clone(),
                        format!("-L{library}"),
                        format!("-Wl,-rpath,{library}"),
                        "-lgreet".into(),
                        "-o".into(),
                        text(program),
                    ]);
                }
            });
        }
    });
    programs
}

fn compile(arguments: &[String]) {
    let output = Command::new("cc").args(arguments).output().expect("a compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn says(program: &Path) -> String {
    let output = Command::new(program).stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Programs built once follow a select, and their files stay what they were.
#[test]
fn programs_follow_without_being_rebuilt() {
    let Some(rig) = with_library("programs_follow_without_being_rebuilt") else { return };
    let programs = build(&rig, 30);
    let before: Vec<Vec<u8>> = programs.iter().map(|path| fs::read(path).expect("ours")).collect();
    let all = || programs.iter().map(|program| says(program)).collect::<BTreeSet<_>>();
    assert_eq!(all(), BTreeSet::from(["1".to_owned()]));
    rig.ok(["select", "greet@2.0"]);
    assert_eq!(all(), BTreeSet::from(["2".to_owned()]));
    rig.ok(["undo"]);
    assert_eq!(all(), BTreeSet::from(["1".to_owned()]));
    let after: Vec<Vec<u8>> = programs.iter().map(|path| fs::read(path).expect("ours")).collect();
    assert!(before == after, "a program file changed");
}

/// A running program keeps the library that it has mapped; what it loads later is the new one.
#[test]
fn a_running_program_keeps_what_it_mapped() {
    let Some(rig) = with_library("a_running_program_keeps_what_it_mapped") else { return };
    let program = build(&rig, 1).remove(0);
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "1");
    rig.ok(["select", "greet@2.0"]);
    let mut input = child.stdin.take().expect("piped");
    writeln!(input).expect("it reads");
    assert_eq!(next(), "1 2", "mapped before the select, and loaded after it");
    drop(input);
    assert!(child.wait().expect("ours").success());
}

/// Once warm, starting a program that loads its library from the mount costs no request at all.
#[test]
fn warm_starts_cost_no_request() {
    let Some(rig) = with_library("warm_starts_cost_no_request") else { return };
    rig.add_plain("other", "1.0");
    rig.add_plain("other", "2.0");
    rig.ok(["select", "other@1.0"]);
    let program = build(&rig, 1).remove(0);
    rig.costs_nothing("warm", || assert_eq!(says(&program), "1"));
    rig.ok(["select", "other@2.0"]);
    let when = "after a swap of another package";
    rig.costs_nothing(when, || assert_eq!(says(&program), "1"));
}

/// A command found through the union `bin` runs, from the package's own path.
#[test]
fn commands_run_through_the_union() {
    let Some(rig) = Rig::mounted("commands_run_through_the_union") else { return };
    let script = |version: &str| format!("#!/bin/sh\necho {version} \"$0\"\n").into_bytes();
    for version in ["1.0", "2.0"] {
        rig.add("tool", version, &[("bin/tool", Content::Program(&script(version)))]);
    }
    rig.ok(["select", "tool@1.0"]);
    let command = rig.at("bin/tool");
    assert_eq!(says(&command), format!("1.0 {}", command.display()));
    rig.ok(["select", "tool@2.0"]);
    assert_eq!(says(&command), format!("2.0 {}", command.display()));
    let target = fs::read_link(&command).expect("a link");
    assert_eq!(target, Path::new("../app/tool/bin/tool"));
}
