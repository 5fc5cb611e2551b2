//! The commands that are uutils' crates, called as they are.

use std::ffi::OsString;
use std::io::Write;

/// Runs the uutils command `name`; `None` when there is none of that name.
pub(crate) fn run(name: &str, args: Vec<OsString>) -> Option<i32> {
    match name {
        "find" => return Some(find(&args)),
        "xargs" => return Some(xargs(&args)),
        _ => {}
    }
    let main: fn(std::vec::IntoIter<OsString>) -> i32 = match name {
        "[" => uu_test::uumain,
        "base64" => uu_base64::uumain,
        "basename" => uu_basename::uumain,
        "cat" => uu_cat::uumain,
        "chgrp" => uu_chgrp::uumain,
        "chmod" => uu_chmod::uumain,
        "chown" => uu_chown::uumain,
        "chroot" => uu_chroot::uumain,
        "cp" => uu_cp::uumain,
        "cut" => uu_cut::uumain,
        "dd" => uu_dd::uumain,
        "df" => uu_df::uumain,
        "dirname" => uu_dirname::uumain,
        "du" => uu_du::uumain,
        "echo" => uu_echo::uumain,
        "env" => uu_env::uumain,
        "expr" => uu_expr::uumain,
        "false" => uu_false::uumain,
        "groups" => uu_groups::uumain,
        "head" => uu_head::uumain,
        "id" => uu_id::uumain,
        "install" => uu_install::uumain,
        "kill" => uu_kill::uumain,
        "ln" => uu_ln::uumain,
        "ls" => uu_ls::uumain,
        "md5sum" => uu_md5sum::uumain,
        "mkdir" => uu_mkdir::uumain,
        "mkfifo" => uu_mkfifo::uumain,
        "mknod" => uu_mknod::uumain,
        "mktemp" => uu_mktemp::uumain,
        "mv" => uu_mv::uumain,
        "nice" => uu_nice::uumain,
        "nohup" => uu_nohup::uumain,
        "nproc" => uu_nproc::uumain,
        "od" => uu_od::uumain,
        "printenv" => uu_printenv::uumain,
        "printf" => uu_printf::uumain,
        "pwd" => uu_pwd::uumain,
        "readlink" => uu_readlink::uumain,
        "realpath" => uu_realpath::uumain,
        "rm" => uu_rm::uumain,
        "rmdir" => uu_rmdir::uumain,
        "seq" => uu_seq::uumain,
        "sha256sum" => uu_sha256sum::uumain,
        "sleep" => uu_sleep::uumain,
        "stat" => uu_stat::uumain,
        "sync" => uu_sync::uumain,
        "tac" => uu_tac::uumain,
        "tail" => uu_tail::uumain,
        "tee" => uu_tee::uumain,
        "test" => uu_test::uumain,
        "timeout" => uu_timeout::uumain,
        "touch" => uu_touch::uumain,
        "tr" => uu_tr::uumain,
        "true" => uu_true::uumain,
        "truncate" => uu_truncate::uumain,
        "tty" => uu_tty::uumain,
        "uname" => uu_uname::uumain,
        "uniq" => uu_uniq::uumain,
        "wc" => uu_wc::uumain,
        "whoami" => uu_whoami::uumain,
        "yes" => uu_yes::uumain,
        "date" => uu_date::uumain,
        "sort" => uu_sort::uumain,
        "grep" => uu_grep::uumain,
        "sed" => sed::sed::uumain,
        _ => return None,
    };
    if let Err(error) = uucore::locale::setup_localization(name) {
        // Messages are then their keys: ugly, but the command works.
        eprintln!("toolbox: {name}: messages: {error}");
    }
    let code = main(args.into_iter());
    match std::io::stdout().flush() {
        Ok(()) => Some(code),
        Err(error) => {
            eprintln!("{name}: write: {error}");
            Some(code.max(1))
        }
    }
}

/// findutils takes text; what is none is given with replacement characters, which then names no file.
fn text(args: &[OsString]) -> Vec<String> {
    args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
}

fn find(args: &[OsString]) -> i32 {
    let args = text(args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    findutils::find::find_main(&args, &findutils::find::StandardDependencies::new())
}

fn xargs(args: &[OsString]) -> i32 {
    let args = text(args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    findutils::xargs::xargs_main(&args)
}
