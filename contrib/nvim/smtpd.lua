-- smtpd.conf in Neovim 0.7 or later. Put this file into
-- ~/.config/nvim/plugin/ and smtpd-check into the PATH.
--
-- To judge for a mail host that a file describes, set in init.lua:
--   vim.g.smtpd_check = { "smtpd-check", "lsp", "--host", "FILE" }

local function attach(buf)
  local name = vim.api.nvim_buf_get_name(buf)
  local git = vim.fn.finddir(".git", vim.fn.fnamemodify(name, ":h") .. ";")
  local config = {
    name = "smtpd",
    cmd = vim.g.smtpd_check or { "smtpd-check", "lsp" },
    root_dir = git ~= "" and vim.fn.fnamemodify(git, ":p:h:h") or vim.fn.fnamemodify(name, ":p:h"),
  }
  -- A relative name in an include is read from there.
  config.cmd_cwd = config.root_dir
  if vim.lsp.start then
    vim.lsp.start(config, { bufnr = buf })
    return
  end
  -- Neovim 0.7 has no start: one server for each folder.
  smtpd_servers = smtpd_servers or {}
  local id = smtpd_servers[config.root_dir]
  if not (id and vim.lsp.buf_attach_client(buf, id)) then
    id = vim.lsp.start_client(config)
    smtpd_servers[config.root_dir] = id
    vim.lsp.buf_attach_client(buf, id)
  end
end

local group = vim.api.nvim_create_augroup("smtpd", {})

vim.api.nvim_create_autocmd({ "BufRead", "BufNewFile" }, {
  group = group,
  pattern = { "smtpd.conf", "*/smtpd.conf.d/*.conf" },
  callback = function(args)
    vim.bo[args.buf].filetype = "smtpd"
  end,
})

vim.api.nvim_create_autocmd("FileType", {
  group = group,
  pattern = "smtpd",
  callback = function(args)
    vim.bo[args.buf].commentstring = "# %s"
    attach(args.buf)
  end,
})
