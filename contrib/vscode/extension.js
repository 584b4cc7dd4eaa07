// Starts smtpd-check lsp for files of the language smtpd.
"use strict";

const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

function activate() {
  const settings = workspace.getConfiguration("smtpd");
  client = new LanguageClient(
    "smtpd",
    "smtpd.conf",
    { command: settings.get("path"), args: ["lsp", ...settings.get("arguments")] },
    { documentSelector: [{ language: "smtpd" }] },
  );
  return client.start();
}

function deactivate() {
  return client && client.stop();
}

module.exports = { activate, deactivate };
