#!/usr/bin/env python3
"""Prints the session keys of the Kerberos tickets in a captured KDC conversation.

usage: ticket_keys.py CAPTURE PRINCIPAL KEYTAB

CAPTURE holds what a KDC sent over TCP: messages, each behind four bytes of big-endian length, of one or more
connections one after the other. Each session key is read from the ticket itself, with the key of its service in KEYTAB
(of krbtgt, too), because the reply around it is sealed under a key that the exchange agreed on. Only tickets of
PRINCIPAL (user@REALM) count. Needs the package impacket. Prints one JSON object a ticket:
{"service": "krbtgt/REALM", "key": "hex"}; exit code 1 when no ticket could be read.
"""
import json
import sys

from impacket.krb5.asn1 import AS_REP, TGS_REP, EncTicketPart
from impacket.krb5.crypto import InvalidChecksum, Key, _enctype_table
from impacket.krb5.keytab import Keytab
from pyasn1.codec.der import decoder


def frames(data):
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big") & 0x7FFFFFFF
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def open_part(key, usage, part, spec):
    plain = _enctype_table[int(part["etype"])].decrypt(key, usage, bytes(part["cipher"]))
    return decoder.decode(plain, asn1Spec=spec)[0]


def report(name, key):
    service = "/".join(str(piece) for piece in name["name-string"])
    print(json.dumps({"service": service, "key": bytes(key["keyvalue"]).hex()}))


def service_keys(keytab):
    return [
        Key(int(entry.main_part["keyblock"]["keytype"]), bytes(entry.main_part["keyblock"]["keyvalue"]["data"]))
        for entry in Keytab.loadFile(keytab).entries
    ]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    data = open(sys.argv[1], "rb").read()
    keys = service_keys(sys.argv[3])
    found = 0
    for frame in frames(data):
        spec = {b"\x6b": AS_REP, b"\x6d": TGS_REP}.get(frame[:1])
        if spec is None:
            continue
        ticket = decoder.decode(frame, asn1Spec=spec())[0]["ticket"]
        for key in keys:
            if key.enctype != int(ticket["enc-part"]["etype"]):
                continue
            try:
                part = open_part(key, 2, ticket["enc-part"], EncTicketPart())
            except InvalidChecksum:
                continue
            user = "/".join(str(piece) for piece in part["cname"]["name-string"]) + "@" + str(part["crealm"])
            if user == sys.argv[2]:
                report(ticket["sname"], part["key"])
                found += 1
            break
    sys.exit(0 if found else 1)


if __name__ == "__main__":
    main()
