//! One file a verb, and the table that leads to it.
//!
//! Knows no work: every arm calls one function.

mod abor;
mod allo;
mod appe;
mod auth;
mod ccc;
mod cwd;
mod dele;
mod eprt;
mod epsv;
mod feat;
mod hash;
mod help;
mod list;
mod mdtm;
mod mfmt;
mod mkd;
mod mlst;
mod mode;
mod noop;
mod opts;
mod pass;
mod pasv;
mod pbsz;
mod prot;
mod pwd;
mod quit;
mod rang;
mod rein;
mod rest;
mod retr;
mod rmd;
mod rnfr;
mod rnto;
mod site;
mod size;
mod stat;
mod stor;
mod stou;
mod syst;
mod transfer_type;
mod user;

use super::session::{Answer, Session};
use crate::grammar::Command;
use crate::storage::ListingStyle;

/// Runs a command that policy let pass.
pub(crate) async fn run(session: &mut Session, command: Command) -> Answer {
    match command {
        Command::Abor => abor::run(session),
        Command::Allo => allo::run(),
        Command::Appe(path) => appe::run(session, &path).await,
        Command::Auth(mechanism) => auth::run(session, mechanism),
        Command::Ccc => ccc::run(),
        Command::Cdup => cwd::run(session, b"..").await,
        Command::Clnt | Command::Noop => noop::run(),
        Command::Cwd(path) => cwd::run(session, &path).await,
        Command::Dele(path) => dele::run(session, &path).await,
        Command::Eprt(address) | Command::Port(address) => eprt::run(session, address),
        Command::Epsv(argument) => epsv::run(session, argument).await,
        Command::Feat => feat::run(session),
        Command::Hash(path) => hash::run(session, &path).await,
        Command::Help => help::run(),
        Command::List(path) => list::run(session, &path, ListingStyle::Long).await,
        Command::Mdtm(path) => mdtm::run(session, &path).await,
        Command::Mfmt {
            modify_unix_seconds,
            path,
        } => mfmt::run(session, modify_unix_seconds, &path).await,
        Command::Mkd(path) => mkd::run(session, &path).await,
        Command::Mlsd(path) => list::run(session, &path, ListingStyle::Facts(session.facts)).await,
        Command::Mlst(path) => mlst::run(session, &path).await,
        Command::ModeStream | Command::StruFile => mode::run(),
        Command::Nlst(path) => list::run(session, &path, ListingStyle::Names).await,
        Command::OptsHash(argument) => opts::run_hash(&argument),
        Command::OptsMlst(argument) => opts::run_mlst(session, &argument),
        Command::OptsUtf8 => opts::run_utf8(),
        command => run_rest(session, command).await,
    }
}

/// The other half of the alphabet.
async fn run_rest(session: &mut Session, command: Command) -> Answer {
    match command {
        Command::Pass(password) => pass::run(session, password).await,
        Command::Pasv => pasv::run(session).await,
        Command::Pbsz => pbsz::run(session),
        Command::Prot(protection) => prot::run(session, protection),
        Command::Pwd => pwd::run(session),
        Command::Quit => quit::run(),
        Command::Rang(range) => rang::run(session, range),
        Command::Rein => rein::run(session),
        Command::Rest(offset) => rest::run(session, offset),
        Command::Retr(path) => retr::run(session, &path).await,
        Command::Rmd(path) => rmd::run(session, &path).await,
        Command::Rnfr(path) => rnfr::run(session, &path).await,
        Command::Rnto(path) => rnto::run(session, &path).await,
        Command::Site(argument) => site::run(session, &argument).await,
        Command::Size(path) => size::run(session, &path).await,
        Command::Stat(path) => stat::run(session, &path).await,
        Command::Stor(path) => stor::run(session, &path).await,
        Command::Stou => stou::run(session).await,
        Command::Syst => syst::run(),
        Command::Type(transfer_type) => transfer_type::run(session, transfer_type),
        Command::User(name) => user::run(session, &name),
        Command::Xsha256(path) => hash::run_x(session, &path).await,
        // Every other verb has its arm above.
        _ => noop::run(),
    }
}
