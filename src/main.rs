//! The `dynfs` program: parse, run, exit code.

fn main() -> std::process::ExitCode {
    dynfs::run()
}
