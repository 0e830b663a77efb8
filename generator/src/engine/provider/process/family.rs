//! The processes that a program consists of: itself, and whatever it starts.
//!
//! They are one process group, which can be killed as one. A process may leave its group (`setsid`), and its parent with it. On
//! Linux this process is the parent of all that lose their own: as the first process of its container, or as a child subreaper
//! (`PR_SET_CHILD_SUBREAPER`). So what left its group is found by whose child it is.

#[cfg(not(unix))]
pub(super) use elsewhere::Family;
#[cfg(unix)]
pub(super) use on_unix::Family;

#[cfg(unix)]
mod on_unix {
    use rustix::process::{Pid, Signal, WaitOptions, getpgrp, getpid, kill_process, kill_process_group, waitpid};
    use std::collections::HashSet;
    use std::io;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Duration;
    use tokio::process::{Child, Command};

    /// The groups of the programs that run now. Held while one is started, so that none is there and not known.
    static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

    fn running() -> MutexGuard<'static, Vec<Pid>> {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes of one program. Killed when it is dropped.
    pub(crate) struct Family(Option<Pid>);

    impl Family {
        /// Starts a program in a group of its own.
        pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
            #[cfg(target_os = "linux")]
            rustix::process::set_child_subreaper(Some(getpid()))?;
            let mut running = running();
            let child = command.process_group(0).spawn()?;
            let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            running.extend(group);
            Ok((child, Self(group)))
        }

        /// Kills them all, as they are now. Gives those that were there.
        pub(crate) fn kill(&self) -> HashSet<Pid> {
            if let Some(group) = self.0 {
                // There may be none of them any more.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let members = self.members();
            for process in &members {
                let _ = kill_process(*process, Signal::KILL);
            }
            members
        }

        /// Kills them until none is left, and takes note of their death: nobody else would. Not of the program's own, which is
        /// for whoever started it.
        pub(crate) async fn end(&self) {
            for _ in 0..100 {
                let members = self.kill();
                if members.is_empty() {
                    return;
                }
                for process in members.into_iter().filter(|process| Some(*process) != self.0) {
                    // That of a grandchild is for its parent to note, as long as there is one.
                    let _ = waitpid(Some(process), WaitOptions::NOHANG);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }

        /// Those that are in its group; those that left it and became children of this process; and what stems from them.
        fn members(&self) -> HashSet<Pid> {
            let Some(group) = self.0 else { return HashSet::new() };
            let running = running();
            let (own, own_group, all) = (getpid(), getpgrp(), processes());
            // A child of this process that is in its group is none of a provider's.
            let is_stray = |process: &Process| {
                process.parent == Some(own)
                    && process.group != Some(own_group)
                    && !process.group.is_some_and(|group| running.contains(&group))
            };
            let first = all.iter().filter(|process| process.group == Some(group) || is_stray(process));
            let mut members: HashSet<Pid> = first.map(|process| process.id).collect();
            loop {
                let stems = |process: &&Process| process.parent.is_some_and(|parent| members.contains(&parent));
                let more: Vec<_> = all.iter().filter(stems).map(|process| process.id).collect();
                let before = members.len();
                members.extend(more);
                if members.len() == before {
                    return members;
                }
            }
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            self.kill();
            if let Some(group) = &self.0 {
                running().retain(|running| running != group);
            }
        }
    }

    /// A process of the machine.
    struct Process {
        id: Pid,
        parent: Option<Pid>,
        group: Option<Pid>,
    }

    /// All that are to be seen. Elsewhere than on Linux there is no `/proc`, and so none.
    fn processes() -> Vec<Process> {
        let directories = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let found = directories.filter_map(|directory| {
            let id = Pid::from_raw(directory.file_name().to_str()?.parse().ok()?)?;
            let stat = std::fs::read_to_string(directory.path().join("stat")).ok()?;
            // The second field is the name, in parentheses, and may hold anything. Then: state, parent, group.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
            let mut next = || fields.next().and_then(|field| Pid::from_raw(field.parse().ok()?));
            Some(Process { id, parent: next(), group: next() })
        });
        found.collect()
    }
}

/// Where there are no groups of processes, only the program itself is killed. No generator runs there: only what an
/// administrator asks for.
#[cfg(not(unix))]
mod elsewhere {
    use std::io;
    use tokio::process::{Child, Command};

    pub(crate) struct Family;

    impl Family {
        pub(crate) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
            Ok((command.spawn()?, Self))
        }

        pub(crate) fn kill(&self) {}

        pub(crate) async fn end(&self) {}
    }
}
