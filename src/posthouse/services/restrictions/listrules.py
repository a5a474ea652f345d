"""What the restrictions mean that ask DNS lists (RFC 5782)."""

from collections.abc import Sequence

from posthouse.config.restrictions import DnsList, Restriction, parse_dns_list
from posthouse.services.restrictions.decision import PERMIT, Decision, defer_if_reject, refuse
from posthouse.services.restrictions.dnslists import address_name, domain_name, hits
from posthouse.services.restrictions.facts import Facts

WORDS = {
    "reject_rbl_client": "Client host",
    "permit_dnswl_client": "Client host",
    "reject_rhsbl_client": "Client host",
    "reject_rhsbl_reverse_client": "Unverified Client host",
    "reject_rhsbl_helo": "Helo command",
    "reject_rhsbl_sender": "Sender address",
    "reject_rhsbl_recipient": "Recipient address",
}


async def subject(facts: Facts, word: str) -> str:
    """What the list is asked about: an address, or a name."""
    match word:
        case "reject_rbl_client" | "permit_dnswl_client" | "reject_dnslists":
            return facts.client
        case "reject_rhsbl_client":
            return (await facts.names()).verified
        case "reject_rhsbl_reverse_client":
            return (await facts.names()).reverse
        case "reject_rhsbl_helo":
            return "" if facts.helo.startswith("[") else facts.helo.rstrip(".").lower()
        case "reject_rhsbl_sender":
            return facts.sender_domain
        case _:
            return facts.recipient_domain


def _name(word: str, about: str, site: str) -> str:
    return domain_name(about, site) if "rhsbl" in word else address_name(about, site)


async def ask_ahead(restrictions: Sequence[Restriction], sites: Sequence[DnsList], facts: Facts) -> None:
    """Ask all lists that are ahead at once: their answers are remembered by the time each is reached."""
    names: list[str] = []
    for one in restrictions:
        if one.word == "reject_dnslists":
            names += [address_name(facts.client, site.site) for site in sites]
        elif one.word in WORDS:
            names.append(_name(one.word, await subject(facts, one.word), parse_dns_list(one.argument).site))
    await facts.dns_lists.ask(name for name in names if name)


async def ask_list(facts: Facts, word: str, argument: str) -> Decision | None:
    """One of ``WORDS``."""
    wanted = parse_dns_list(argument)
    about = await subject(facts, word)
    name = _name(word, about, wanted.site)
    if not name:
        return None
    listing = await facts.dns_lists.listing(name)
    found = hits(wanted, listing)
    if word == "permit_dnswl_client":
        if listing.trouble:
            return defer_if_reject(450, "4.7.1", "A look-up failed, please try again later", listing.trouble)
        return PERMIT if found else None
    if not found:
        return None
    what = f"{WORDS[word]} [{about}]"
    text = f"Service unavailable; {what} blocked using {wanted.site}" + (f"; {listing.text}" if listing.text else "")
    return refuse(554, "5.7.1", text, f"{name} is {', '.join(found)}")


async def ask_scored(facts: Facts, sites: Sequence[DnsList], threshold: int) -> Decision | None:
    """``reject_dnslists``: the weights of all lists that the client is on, summed up."""
    names = {site.site: address_name(facts.client, site.site) for site in sites}
    listings = await facts.dns_lists.ask(name for name in names.values() if name)
    counted = [(site, site.weight) for site in sites if names[site.site] and hits(site, listings[names[site.site]])]
    score = sum(weight for _, weight in counted)
    if score < threshold:
        return None
    on = [site.site for site, weight in counted if weight > 0]
    text = f"Service unavailable; Client host [{facts.client}] blocked using {', '.join(on)}"
    detail = ", ".join(f"{site.site} {weight:+d}" for site, weight in counted)
    return refuse(554, "5.7.1", text, f"score {score} of {threshold}: {detail}")
