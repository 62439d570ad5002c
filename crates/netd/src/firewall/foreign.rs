//! Other tables that drop what is forwarded: an accept of ours cannot overrule them, so the administrator is told.

use rustix::io::Errno;

use crate::netlink::{Message, NFNL_SUBSYS_NFTABLES, NLM_F_DUMP, Request, Socket};

const NFT_MSG_GETCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;
/// inet, ip, ip6.
const FAMILIES: [(u8, &str); 3] = [(1, "inet"), (2, "ip"), (10, "ip6")];

/// `family table chain` of each forward chain with a drop policy outside `own`; firewalld's rejects with a last rule.
pub fn drops(socket: &Socket, own: &str) -> Result<Vec<String>, Errno> {
    let mut request = Request::default();
    request.message(NFT_MSG_GETCHAIN, NLM_F_DUMP, 0, 0);
    let mut chains = Vec::new();
    socket.dump(request, |message| chains.extend(dropping(message, own)))?;
    Ok(chains)
}

fn dropping(message: Message<'_>, own: &str) -> Option<String> {
    let attributes = message.attributes();
    let (_, family) = FAMILIES.iter().find(|(number, _)| *number == message.family())?;
    let (table, chain) = (attributes.text(NFTA_CHAIN_TABLE)?, attributes.text(NFTA_CHAIN_NAME)?);
    let hook = attributes.nested(NFTA_CHAIN_HOOK)?.be32(NFTA_HOOK_HOOKNUM)?;
    let drops = attributes.be32(NFTA_CHAIN_POLICY) == Some(NF_DROP) || table == "firewalld";
    (hook == NF_INET_FORWARD && drops && table != own).then(|| format!("{family} {table} {chain}"))
}
