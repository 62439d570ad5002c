//! Elements of sets and maps by netlink: one batch, all or nothing, no process.

use gantry_wire::net::Element;
use rustix::io::Errno;

use crate::netlink::{NFNL_SUBSYS_NFTABLES, NLM_F_ACK, NLM_F_CREATE, Request, Socket};

const NFPROTO_INET: u8 = 1;
const NFT_MSG_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_MSG_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_DATA_VALUE: u16 = 1;
/// The element is where an interval ends, and not in it.
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

/// Takes `old` out and puts `new` in, in one transaction.
pub fn exchange(socket: &Socket, table: &str, old: &[Element], new: &[Element]) -> Result<(), Errno> {
    let mut request = Request::default();
    request.batch_begin();
    for element in old {
        put(&mut request, NFT_MSG_DELSETELEM, NLM_F_ACK, table, element, false);
    }
    for element in new {
        put(&mut request, NFT_MSG_NEWSETELEM, NLM_F_ACK | NLM_F_CREATE, table, element, true);
    }
    request.batch_end();
    socket.request(request)
}

fn put(request: &mut Request, kind: u16, flags: u16, table: &str, element: &Element, with_data: bool) {
    request.message(kind, flags, NFPROTO_INET, 0);
    request.text(NFTA_SET_ELEM_LIST_TABLE, table);
    request.text(NFTA_SET_ELEM_LIST_SET, &element.set);
    request.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
        list.nest(NFTA_LIST_ELEM, |item| {
            item.nest(NFTA_SET_ELEM_KEY, |key| key.attribute(NFTA_DATA_VALUE, &element.key_bytes()));
            if with_data && !element.data.is_empty() {
                item.nest(NFTA_SET_ELEM_DATA, |data| data.attribute(NFTA_DATA_VALUE, &element.data_bytes()));
            }
        });
        if let Some(end) = element.end_bytes() {
            list.nest(NFTA_LIST_ELEM, |item| {
                item.nest(NFTA_SET_ELEM_KEY, |key| key.attribute(NFTA_DATA_VALUE, &end));
                item.attribute(NFTA_SET_ELEM_FLAGS, &NFT_SET_ELEM_INTERVAL_END.to_be_bytes());
            });
        }
    });
}
