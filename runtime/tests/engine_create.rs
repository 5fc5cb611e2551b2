//! Creating and starting containers.

mod engine_support;

use engine_support::{Lab, block_on};

#[test]
fn a_command_runs_as_pid_1_with_exactly_its_arguments() {
    block_on(async {
        let lab = Lab::new();
        let output = lab.run(&lab.spec("echo $$; tr '\\0' '|' < /proc/self/cmdline; exit 7")).await.unwrap();
        assert_eq!(7, output.exit.code, "{}", output.stderr);
        assert_eq!("1\n", &output.stdout[..2]);
    });
}
