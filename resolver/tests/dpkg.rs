//! The order of versions against `dpkg --compare-versions`, where there is a dpkg.

use std::process::{Command, Stdio};

use resolver::Version;

#[test]
fn order_is_that_of_the_installed_dpkg() {
    let present = Command::new("dpkg").arg("--version").stdout(Stdio::null()).status();
    if !present.is_ok_and(|status| status.success()) {
        println!("SKIPPED: there is no dpkg on this machine");
        return;
    }
    let parts = ["1", "0", "10", "01", "a", "~", "+", ".", "-", "Z", "~~", "2"];
    let mut seed: usize = 7;
    let mut text = || {
        let mut text = String::from("1");
        for _ in 0..4 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(parts[(seed >> 33) % parts.len()]);
        }
        text
    };
    let mut compared = 0;
    while compared < 200 {
        let (a, b) = (text(), text());
        let (Ok(left), Ok(right)) = (a.parse::<Version>(), b.parse::<Version>()) else { continue };
        let says = |relation: &str| {
            let mut command = Command::new("dpkg");
            command.args(["--compare-versions", &a, relation, &b]).stderr(Stdio::null());
            command.status().expect("dpkg ran a moment ago").success()
        };
        let (right_order, word) = if left < right { ("le", "<=") } else { ("ge", ">=") };
        assert!(says(right_order), "{a} {word} {b}");
        compared += 1;
    }
}
