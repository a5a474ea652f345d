// What ImapFlow does with an account that has three messages; told as one line of JSON.
const { ImapFlow } = require("imapflow");

async function main(port, user, pass) {
  const said = {};
  const client = new ImapFlow({
    host: "127.0.0.1", port: Number(port), secure: true, auth: { user, pass }, logger: false,
    tls: { rejectUnauthorized: false },
  });
  await client.connect();
  await client.mailboxCreate(["Reisen", "Ärger"]);
  said.folders = (await client.list()).map((box) => box.path);
  const lock = await client.getMailboxLock("INBOX");
  said.exists = client.mailbox.exists;
  said.found = await client.search({ subject: "second" }, { uid: true });
  said.messages = [];
  for await (const { envelope, bodyStructure, source } of client.fetch("1:*", {
    envelope: true, bodyStructure: true, source: true,
  })) said.messages.push([envelope.subject, bodyStructure.type, source.length]);
  await client.messageFlagsAdd("1", ["\\Flagged", "$Label1"], { uid: true });
  said.moved = [...(await client.messageMove("2", "Reisen.Ärger", { uid: true })).uidMap];
  await client.messageDelete("3", { uid: true });
  said.left = (await client.status("INBOX", { messages: true })).messages;
  const text = [];
  for await (const chunk of (await client.download("1", "TEXT", { uid: true })).content) text.push(chunk);
  said.text = Buffer.concat(text).toString();
  said.appended = (await client.append("INBOX", "Subject: put\r\n\r\nx\r\n", ["\\Seen"])).uid;
  lock.release();
  await client.logout();
  console.log(JSON.stringify(said));
}

main(...process.argv.slice(2)).catch((error) => { console.error(error); process.exit(1); });
