"""Reports of undelivered mail, in the forms in which mail servers send them."""

from __future__ import annotations

POSTFIX = b"""\
Return-Path: <>
Received: by relay.institute.edu (Postfix) id 4F2A1C0042; Mon,  2 Mar 2026 09:31:02 +0000 (UTC)
Date: Mon,  2 Mar 2026 09:31:02 +0000 (UTC)
From: MAILER-DAEMON@relay.institute.edu (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: launchpad@institute.edu
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="B1C7EC0041.1772443862/relay.institute.edu"
Message-Id: <20260302093102.4F2A1C0042@relay.institute.edu>

This is a MIME-encapsulated message.

--B1C7EC0041.1772443862/relay.institute.edu
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host relay.institute.edu.

<alice@example.org>: host mx.example.org[192.0.2.25] said: 550 5.1.1
    <alice@example.org>: Recipient address rejected: User unknown in virtual
    mailbox table (in reply to RCPT TO command)

--B1C7EC0041.1772443862/relay.institute.edu
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.institute.edu
X-Postfix-Queue-ID: B1C7EC0041
X-Postfix-Sender: rfc822; launchpad@institute.edu
Arrival-Date: Mon,  2 Mar 2026 09:31:01 +0000 (UTC)

Final-Recipient: rfc822; alice@example.org
Original-Recipient: rfc822;Alice@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550 5.1.1 <alice@example.org>: Recipient address
    rejected: User unknown in virtual mailbox table

--B1C7EC0041.1772443862/relay.institute.edu
Content-Description: Undelivered Message
Content-Type: message/rfc822

Subject: Your sign-in code for Launchpad
To: alice@example.org

123 456

--B1C7EC0041.1772443862/relay.institute.edu--
"""

SES = b"""\
From: MAILER-DAEMON@eu-west-1.amazonses.com\r
To: launchpad@institute.edu\r
Subject: Delivery Status Notification (Failure)\r
MIME-Version: 1.0\r
Content-Type: multipart/report; boundary="----=_Part_1250234_1391183467.1772443862447"; \r
 report-type=delivery-status\r
Date: Mon, 2 Mar 2026 09:31:02 +0000\r
\r
------=_Part_1250234_1391183467.1772443862447\r
Content-Type: text/plain; charset=us-ascii\r
Content-Transfer-Encoding: 7bit\r
Content-Description: Notification\r
\r
An error occurred while trying to deliver the mail to the following recipients:\r
bob@example.org\r
------=_Part_1250234_1391183467.1772443862447\r
Content-Type: message/delivery-status\r
Content-Transfer-Encoding: 7bit\r
Content-Description: Delivery Status Notification\r
\r
Reporting-MTA: dns; a4-7.smtp-out.eu-west-1.amazonses.com\r
\r
Action: failed\r
Final-Recipient: rfc822; bob@example.org\r
Diagnostic-Code: smtp; 552 5.2.2 The email account that you tried to reach is over quota\r
Status: 5.0.0\r
\r
------=_Part_1250234_1391183467.1772443862447\r
Content-Type: message/rfc822\r
Content-Description: Undelivered Message\r
\r
Subject: Your sign-in code for Launchpad\r
\r
------=_Part_1250234_1391183467.1772443862447--\r
"""

EXIM = b"""\
X-Failed-Recipients: carol@example.org
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@relay.institute.edu>
To: launchpad@institute.edu
Content-Type: multipart/report; report-type=delivery-status; boundary=1772443862-eximdsn-1804289383
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender

--1772443862-eximdsn-1804289383
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

--1772443862-eximdsn-1804289383
Content-type: message/delivery-status

Reporting-MTA: dns; relay.institute.edu

Action: failed
Final-Recipient: rfc822;carol@example.org
Status: 5.0.0
Remote-MTA: dns; mx.example.org
Diagnostic-Code: smtp; 550-5.7.26 This mail has been blocked because the sender is unauthenticated.
 550 5.7.26 SPF [institute.edu] with ip: [192.0.2.1] = did not pass

--1772443862-eximdsn-1804289383
Content-type: message/rfc822

Subject: Your sign-in code for Launchpad

--1772443862-eximdsn-1804289383--
"""

# Somebody's mail program says that a mail was read: a report, and none of a failure.
READ_RECEIPT = b"""\
From: dora@example.org
To: launchpad@institute.edu
Subject: Read: a test mail
Content-Type: multipart/report; report-type=disposition-notification; boundary="b"

--b
Content-Type: text/plain

It was read.
--b
Content-Type: message/disposition-notification

Final-Recipient: rfc822; dora@example.org
Action: failed
Disposition: manual-action/MDN-sent-manually; displayed
--b--
"""

ORDINARY = b"""\
From: dora@example.org
To: launchpad@institute.edu
Subject: A question

May I have more memory? Somebody wrote "multipart/report" to me.
"""


def report(to: str, status: str = "5.1.1", *, action: str = "failed", subject: str = "Undelivered") -> bytes:
    """A short one about `to`."""
    return f"""\
From: MAILER-DAEMON@example.org
Subject: {subject}
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Final-Recipient: rfc822; {to}
Action: {action}
Status: {status}

--b--
""".encode()
