"""Which handler runs which command."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from posthouse.protocols.imap import acl, cancelling, commands, multisearch, urlauth
from posthouse.protocols.imap.metadata import GetMetadata, SetMetadata
from posthouse.protocols.imap.notify import Notify
from posthouse.protocols.imap.render import Completion
from posthouse.servers.imap.commands.acl import delete_acl, get_acl, list_rights, my_rights, set_acl
from posthouse.servers.imap.commands.append import append
from posthouse.servers.imap.commands.authenticate import authenticate
from posthouse.servers.imap.commands.cancelupdate import cancel_update
from posthouse.servers.imap.commands.capability import capability
from posthouse.servers.imap.commands.close import close
from posthouse.servers.imap.commands.compress import compress
from posthouse.servers.imap.commands.copy import copy, move
from posthouse.servers.imap.commands.create import create
from posthouse.servers.imap.commands.delete import delete
from posthouse.servers.imap.commands.enable import enable
from posthouse.servers.imap.commands.expunge import expunge
from posthouse.servers.imap.commands.fetch import fetch
from posthouse.servers.imap.commands.id import identify
from posthouse.servers.imap.commands.idle import idle
from posthouse.servers.imap.commands.list import list_mailboxes
from posthouse.servers.imap.commands.login import login
from posthouse.servers.imap.commands.logout import logout
from posthouse.servers.imap.commands.metadata import get_metadata, set_metadata
from posthouse.servers.imap.commands.multisearch import multi_search
from posthouse.servers.imap.commands.namespace import namespace
from posthouse.servers.imap.commands.noop import check, noop
from posthouse.servers.imap.commands.notify import notify
from posthouse.servers.imap.commands.quota import get_quota, get_quota_root
from posthouse.servers.imap.commands.rename import rename
from posthouse.servers.imap.commands.search import search
from posthouse.servers.imap.commands.select import select
from posthouse.servers.imap.commands.sort import sort
from posthouse.servers.imap.commands.starttls import starttls
from posthouse.servers.imap.commands.status import status
from posthouse.servers.imap.commands.store import store
from posthouse.servers.imap.commands.subscribe import subscribe
from posthouse.servers.imap.commands.thread import thread
from posthouse.servers.imap.commands.unauthenticate import unauthenticate
from posthouse.servers.imap.commands.urlauth import gen_url_auth, reset_key, url_fetch

if TYPE_CHECKING:
    from posthouse.servers.imap.session import ImapSession

Handler = Callable[["ImapSession", Any], Awaitable[Completion | None]]
"""Takes the command whose type it is registered for."""

HANDLERS: Final[dict[type[commands.Command], Handler]] = {
    acl.DeleteAcl: delete_acl,
    acl.GetAcl: get_acl,
    acl.ListRights: list_rights,
    acl.MyRights: my_rights,
    acl.SetAcl: set_acl,
    Notify: notify,
    commands.AppendStart: append,
    commands.Authenticate: authenticate,
    commands.Capability: capability,
    commands.Check: check,
    commands.Close: close,
    commands.Compress: compress,
    commands.Copy: copy,
    commands.Create: create,
    commands.Delete: delete,
    commands.Enable: enable,
    commands.Expunge: expunge,
    commands.Fetch: fetch,
    GetMetadata: get_metadata,
    commands.GetQuota: get_quota,
    commands.GetQuotaRoot: get_quota_root,
    commands.Id: identify,
    commands.Idle: idle,
    commands.List: list_mailboxes,
    commands.Login: login,
    commands.Logout: logout,
    commands.Move: move,
    commands.Namespace: namespace,
    commands.Noop: noop,
    commands.Rename: rename,
    commands.Search: search,
    commands.Select: select,
    SetMetadata: set_metadata,
    commands.Sort: sort,
    commands.StartTls: starttls,
    commands.Status: status,
    commands.Store: store,
    commands.Subscribe: subscribe,
    commands.Thread: thread,
    commands.Unauthenticate: unauthenticate,
    cancelling.CancelUpdate: cancel_update,
    multisearch.MultiSearch: multi_search,
    urlauth.GenUrlAuth: gen_url_auth,
    urlauth.ResetKey: reset_key,
    urlauth.UrlFetch: url_fetch,
}
