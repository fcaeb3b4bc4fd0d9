#!/usr/bin/env python3
"""Prints the session keys of the Kerberos tickets in a captured KDC conversation.

usage: ticket_keys.py CAPTURE PASSWORD_FILE [KEYTAB]

CAPTURE holds what a KDC sent over TCP: messages, each behind four bytes of big-endian length, of one or more
connections one after the other. The ticket-granting ticket's session key is read from the AS-REP with the user's
password, a service ticket's from the ticket itself with the service's key in KEYTAB (the TGS-REP around it is
sealed under a sub-key that a capture of one direction lacks). Needs the package impacket. Prints one JSON object a
ticket: {"service": "krbtgt/REALM", "key": "hex"}; exit code 1 when no ticket could be read.
"""
import json
import sys

from impacket.krb5 import constants
from impacket.krb5.asn1 import AS_REP, ETYPE_INFO2, TGS_REP, EncASRepPart, EncTGSRepPart, EncTicketPart
from impacket.krb5.crypto import InvalidChecksum, Key, _enctype_table, string_to_key
from impacket.krb5.keytab import Keytab
from pyasn1.codec.der import decoder
from pyasn1.error import PyAsn1Error


def frames(data):
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def salt_of(reply):
    if reply["padata"].hasValue():
        for pa in reply["padata"]:
            if int(pa["padata-type"]) == constants.PreAuthenticationDataTypes.PA_ETYPE_INFO2.value:
                info = decoder.decode(bytes(pa["padata-value"]), asn1Spec=ETYPE_INFO2())[0]
                if info[0]["salt"].hasValue():
                    return str(info[0]["salt"])
    return str(reply["crealm"]) + "".join(str(part) for part in reply["cname"]["name-string"])


def open_part(key, usage, part, *specs):
    plain = _enctype_table[int(part["etype"])].decrypt(key, usage, bytes(part["cipher"]))
    for spec in specs:
        try:
            return decoder.decode(plain, asn1Spec=spec)[0]
        except PyAsn1Error:  # MIT's KDC tags an AS-REP's part as if it were a TGS-REP's
            continue
    raise ValueError("none of the expected structures")


def report(name, key):
    service = "/".join(str(piece) for piece in name["name-string"])
    print(json.dumps({"service": service, "key": bytes(key["keyvalue"]).hex()}))


def service_keys(keytab):
    return [
        Key(int(entry.main_part["keyblock"]["keytype"]), bytes(entry.main_part["keyblock"]["keyvalue"]["data"]))
        for entry in Keytab.loadFile(keytab).entries
    ]


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    data = open(sys.argv[1], "rb").read()
    password = open(sys.argv[2]).read().rstrip("\n")
    keys = service_keys(sys.argv[3]) if len(sys.argv) == 4 else []
    found = 0
    for frame in frames(data):
        if frame[:1] == b"\x6b":
            reply = decoder.decode(frame, asn1Spec=AS_REP())[0]
            key = string_to_key(int(reply["enc-part"]["etype"]), password, salt_of(reply))
            try:
                part = open_part(key, 3, reply["enc-part"], EncASRepPart(), EncTGSRepPart())
            except InvalidChecksum:  # another user's log-in
                continue
            report(part["sname"], part["key"])
            found += 1
        elif frame[:1] == b"\x6d":
            ticket = decoder.decode(frame, asn1Spec=TGS_REP())[0]["ticket"]
            for key in keys:
                if key.enctype != int(ticket["enc-part"]["etype"]):
                    continue
                try:
                    part = open_part(key, 2, ticket["enc-part"], EncTicketPart())
                except InvalidChecksum:
                    continue
                report(ticket["sname"], part["key"])
                found += 1
                break
    sys.exit(0 if found else 1)


if __name__ == "__main__":
    main()
