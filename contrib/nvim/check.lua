-- Tries smtpd.lua on a configuration, as a user would: see check.sh. It ends
-- Neovim with status 0 if all is as it should be.

local patience = 120000 -- milliseconds, for what must come

local function fail(what, got)
  io.stderr:write("nvim: " .. what .. ": " .. vim.inspect(got) .. "\n")
  vim.cmd("cquit 1")
end

local function expect(what, ok, got)
  if not ok then
    fail(what, got)
  end
end

local function text()
  return table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false), "\n")
end

-- ask sends a request about the place of the first match of pattern.
local function ask(method, pattern, more)
  vim.fn.cursor(1, 1)
  vim.fn.search(pattern, "c")
  local params = vim.lsp.util.make_position_params(0, "utf-16")
  local answers = vim.lsp.buf_request_sync(0, method, vim.tbl_extend("force", params, more or {}), patience)
  for _, a in pairs(answers or {}) do
    expect(method, not a.err, a.err)
    return a.result
  end
  fail(method .. ": no answer", answers)
end

local function codes()
  local list = {}
  for _, d in ipairs(vim.diagnostic.get(0)) do
    table.insert(list, d.code or d.user_data.lsp.code)
  end
  table.sort(list)
  return table.concat(list, " ")
end

local function wait_for(want)
  expect("diagnostics, want " .. want, vim.wait(patience, function()
    return codes() == want
  end, 10), codes())
end

local function run()
  vim.cmd("edit smtpd.conf")
  expect("file type", vim.bo.filetype == "smtpd", vim.bo.filetype)
  wait_for("undefined-action")

  local hover = ask("textDocument/hover", "listen")
  expect("hover", hover.contents.value:find("where the server takes mail"), hover)

  local items = ask("textDocument/completion", "<dom")
  expect("completion", vim.inspect(items):find('label = "<domains>"'), items)

  local edit = ask("textDocument/rename", "domains", { newName = "ours" })
  vim.lsp.util.apply_workspace_edit(edit, "utf-16")
  expect("rename", select(2, text():gsub("ours", "")) == 2 and not text():find("domains"), text())

  vim.fn.cursor(1, 1)
  vim.fn.search("tmp")
  vim.api.nvim_set_current_line('match from any for domain <ours> action "in"')
  wait_for("")

  local params = { textDocument = vim.lsp.util.make_text_document_params(), options = { tabSize = 8, insertSpaces = false } }
  local answers = vim.lsp.buf_request_sync(0, "textDocument/formatting", params, patience)
  for _, a in pairs(answers) do
    vim.lsp.util.apply_text_edits(a.result, 0, "utf-16")
  end
  expect("layout", text():find('table ours { "example.org" }', 1, true), text())
end

local ok, err = pcall(run)
if not ok then
  fail("error", err)
end
vim.cmd("qall!")
